from __future__ import annotations

import asyncio
from typing import Any

import pytest

from keeptrusts import asgi

pytestmark = pytest.mark.once


@pytest.fixture
def answered_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have both applications only note that they were asked."""
    asked: list[str] = []

    def noting(name: str) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            asked.append(name)

        return application

    monkeypatch.setattr(asgi, "_gateways", noting("gateways"))
    monkeypatch.setattr(asgi, "_console", noting("console"))
    return asked


async def nothing(*_: Any) -> Any:
    return {}


@pytest.mark.parametrize(
    ("path", "application"),
    [
        ("/gateway/v1/authorize", "gateways"),
        ("/gateway/v1/authorize/v1/chat/completions", "gateways"),
        ("/gateway/v1/", "gateways"),
        ("/gateway/v1", "console"),
        ("/gateway/v10/authorize", "console"),
        ("/admin/gateway/v1/", "console"),
        ("/", "console"),
    ],
)
def test_the_path_decides_who_answers(path: str, application: str, answered_by: list[str]) -> None:
    asyncio.run(asgi.application({"type": "http", "path": path}, nothing, nothing))
    assert answered_by == [application]


def test_the_gateways_application_learns_of_start_and_stop(answered_by: list[str]) -> None:
    asyncio.run(asgi.application({"type": "lifespan"}, nothing, nothing))
    assert answered_by == ["gateways"]

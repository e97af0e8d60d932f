"""The least that an ASGI application can do: what the server itself costs."""

from __future__ import annotations

from typing import Any

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
BODY = {"type": "http.response.body", "body": b""}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 with nothing, whatever is asked."""
    if scope["type"] == "http":
        await send(START)
        await send(BODY)

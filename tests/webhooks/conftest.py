from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest

from tests.factories import TESTS
from tests.webhooks.receiver import Receiver, receiving
from webhooks.endpoints import IssuedSecret, create_endpoint


@pytest.fixture
def loopback(settings: Any) -> None:
    """Let notices go to servers of the test's own."""
    settings.KEEPTRUSTS_WEBHOOK_ALLOW_HTTP = True
    settings.KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def receiver(loopback: None) -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def issued(db: None, receiver: Receiver) -> IssuedSecret:
    """An endpoint that the receiver is behind."""
    return create_endpoint(actor=TESTS, name="receiver", url=receiver.url)

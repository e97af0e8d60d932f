"""Workers that are killed in the midst of sending: nothing is lost, and what comes twice is the same."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from django.db import connection

from tests.factories import make_key
from tests.processes import Watched, eventually, running
from tests.webhooks.receiver import Receiver, answering
from webhooks.endpoints import IssuedSecret
from webhooks.models import Delivery, DeliveryState, Notice

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def worker() -> Iterator[Watched]:
    database = str(connection.settings_dict["NAME"])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    with running([sys.executable, "-m", "tests.webhooks.killing", database], environment) as program:
        program.says("ready")
        yield program


def slowly(request: BaseHTTPRequestHandler) -> None:
    time.sleep(0.03)
    answering(204)(request)


def survive(kills: int, notices: int, receiver: Receiver) -> None:
    receiver.manner = slowly
    for _ in range(notices):
        make_key()
    for _ in range(kills):
        with worker() as program:
            before = len(receiver.taken)
            # In the midst: something has just come, and its answer is still on its way.
            assert eventually(lambda before=before: len(receiver.taken) > before + 2, 30), program.output  # type: ignore[misc]
            os.killpg(program.process.pid, signal.SIGKILL)
    waiting = Delivery.objects.exclude(state=DeliveryState.DELIVERED)
    assert waiting.exists()
    with worker() as program:
        assert eventually(lambda: not waiting.exists(), 60), program.output
    sent = dict.fromkeys(receiver.ids, "")
    assert set(sent) == set(Notice.objects.values_list("pk", flat=True))
    bodies = {(headers["webhook-id"], body) for headers, body in receiver.taken}
    assert len(bodies) == notices
    # Each dead one may have sent one that it could not write down.
    assert notices <= len(receiver.taken) <= notices + kills


def test_three_killed_workers_lose_nothing(issued: IssuedSecret, receiver: Receiver) -> None:
    survive(3, 40, receiver)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twenty_killed_workers_lose_nothing(issued: IssuedSecret, receiver: Receiver) -> None:
    survive(20, 200, receiver)

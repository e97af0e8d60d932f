"""SIGTERM under load: who was served is counted, and who was counted has been served."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx

from tests.factories import make_gateway, make_key
from tests.faults.plant import Caller, Plant
from usage.models import KeyMetrics

CLIENTS = 6


def test_a_stop_under_load_loses_no_answer_and_no_count(transactional_db: None, tmp_path: Path) -> None:
    token, issued = make_gateway().value, make_key()
    answered, lock, stopping = [0], threading.Lock(), threading.Event()
    unanswered = [0]
    with Plant(tmp_path) as plant, httpx.Client(timeout=20) as client:
        web = plant.web(KEEPTRUSTS_LEASE_SECONDS="2").start_and_wait()

        def ask() -> None:
            sent = {"X-Keeptrusts-Gateway-Token": token, "Authorization": f"Bearer {issued.value}"}
            try:
                status = client.get(web.base + "/gateway/v1/authorize", headers=sent).status_code
            except httpx.TransportError:
                # The connection was closed before the question was read, as whoever keeps one open must expect.
                assert stopping.is_set()
                unanswered[0] += 1
                time.sleep(0.02)
                return
            assert status == 200
            with lock:
                answered[0] += 1

        clients = [Caller(ask) for _ in range(CLIENTS)]
        for caller in clients:
            caller.start()
        time.sleep(2)
        stopping.set()
        before = answered[0]
        assert web.terminate() == 0
        for caller in clients:
            caller.stop()
        assert web.watched
        assert "lost" not in web.watched.output
    assert before > 20
    assert unanswered[0] > 0, "it was stopped while they asked"
    assert KeyMetrics.objects.get(key=issued.key).total_requests == answered[0]

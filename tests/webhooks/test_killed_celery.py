"""The real thing: Celery's worker on Redis, killed twenty times while it sends what PostgreSQL has queued."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.processes import eventually, running
from tests.served import Served, own_database
from tests.webhooks.receiver import Receiver, answering, receiving

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.postgresql,
    pytest.mark.fault("celery", full=1),
    pytest.mark.timeout(1_500),
]
KILLS: Final = 20
# For each of the workers.
KEYS: Final = 10
CELERY: Final = [sys.executable, "-m", "celery", "--quiet", "--app", "keeptrusts"]
WORKER: Final = [*CELERY, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "INFO"]
BEAT: Final = [*CELERY, "beat", "--pidfile", "", "--loglevel", "INFO"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    def slowly(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.1)
        answering(204)(request)

    with receiving(slowly) as receiver:
        yield receiver


def test_nothing_is_lost_with_celerys_workers_killed(receiver: Receiver, tmp_path: Path) -> None:
    with own_database("killed_celery") as url:
        allowed = {"KEEPTRUSTS_WEBHOOK_ALLOW_HTTP": "true", "KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
        served = Served(tmp_path, url, **allowed)
        served.start()
        try:
            served.api("POST", "/webhook-endpoints/", {"name": "receiver", "url": receiver.url})
            with running([*BEAT, "--schedule", str(tmp_path / "schedule")], served.environment):
                for round_ in range(KILLS):
                    for number in range(KEYS):
                        served.api("POST", "/gateway-keys/", {"name": f"{round_}-{number}"})
                    _send_until_killed(served, receiver)
                with running(WORKER, served.environment) as last, psycopg.connect(url, autocommit=True) as database:
                    # What a dead one had taken is asked for again after a minute (webhooks/delivering.py).
                    delivered = "SELECT count(*) FROM webhooks_delivery WHERE state = 'delivered'"
                    all_of_them = KILLS * KEYS
                    assert eventually(lambda: database.execute(delivered).fetchone() == (all_of_them,), 400), (
                        last.output
                    )
                    notices = {row[0] for row in database.execute("SELECT id FROM webhooks_notice").fetchall()}
        finally:
            served.close()
    assert set(receiver.ids) == notices
    # The same id is the same notice; a worker that dies may have sent one for each of its threads.
    assert len({(headers["webhook-id"], body) for headers, body in receiver.taken}) == len(notices)
    assert len(receiver.taken) <= len(notices) + 2 * KILLS
    print(f"{len(notices)} notices, {KILLS} killed workers, {len(receiver.taken) - len(notices)} sent twice, 0 lost")


def _send_until_killed(served: Served, receiver: Receiver) -> None:
    before = len(receiver.taken)
    with running(WORKER, served.environment) as worker:
        # In the midst: something has come, and the answer to the last of it is still on its way.
        assert eventually(lambda: len(receiver.taken) > before + 2, 120), worker.output
        os.killpg(worker.process.pid, signal.SIGKILL)

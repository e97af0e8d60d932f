"""The sign of life of a worker and of beat: a file that is touched while they do what they are there for.

A process that runs is not enough: after a restart of the broker a worker may wait without end for messages that never
reach it. So a worker is alive while messages reach it, or while it is busy with one; beat, while it sends.
The supervisor starts anew what has no pulse (keeptrusts/supervisor.py); elsewhere a probe can look at the file's time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from celery.signals import (
    after_task_publish,
    beat_init,
    task_postrun,
    task_prerun,
    task_received,
    worker_init,
    worker_shutdown,
)
from django.conf import settings
from django.db import connection

from audit import clock
from operations.jobs import Run, Runs

logger = logging.getLogger(__name__)

# The file; not given: there is nobody who watches it.
VARIABLE: Final = "KEEPTRUSTS_PULSE_FILE"
# Seconds. Jobs are sent every few seconds, so that even a fifth worker gets one in this time.
STALLED_AFTER: Final = 25.0
# Seconds between two looks at oneself, and how often at most the runs of jobs are written.
EVERY: Final = 2.0


class WorkerPulse:
    """What a worker knows of itself; `beat` touches the file if that shows that it lives."""

    def __init__(self, touch: Callable[[], None], *, busy_at_most: float) -> None:
        self._touch = touch
        self._busy_at_most = busy_at_most
        self._reached_at = time.monotonic()
        self._started: dict[str, float] = {}
        self.runs = Runs()

    def reached(self) -> None:
        """A message has come."""
        self._reached_at = time.monotonic()

    def began(self, task_id: str) -> None:
        self._started[task_id] = time.monotonic()

    def ended(self, task_id: str, task: str, *, succeeded: bool) -> None:
        self._reached_at = now = time.monotonic()
        seconds = now - self._started.pop(task_id, now)
        self.runs.note(task, Run(clock.now(), seconds, succeeded))

    def is_alive(self) -> bool:
        now = time.monotonic()
        if now - self._reached_at < EVERY * 2:
            return True
        # Busy threads take no message; one that is busy for longer than any job may take hangs.
        return any(now - started < self._busy_at_most for started in list(self._started.values()))

    def beat(self) -> None:
        if self.is_alive():
            self._touch()


def touch() -> None:
    """Touch this process's file, if it has one."""
    if path := os.environ.get(VARIABLE):
        # A full or lost disk is found out about elsewhere.
        with suppress(OSError):
            Path(path).touch()


_pulse = WorkerPulse(touch, busy_at_most=settings.CELERY_TASK_TIME_LIMIT)
_over = threading.Event()


@worker_init.connect
def _start(**_: Any) -> None:
    threading.Thread(target=_keep_beating, name="pulse", daemon=True).start()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    _over.set()


@task_received.connect
def _reached(**_: Any) -> None:
    _pulse.reached()


@task_prerun.connect
def _began(task_id: str, **_: Any) -> None:
    _pulse.began(task_id)


@task_postrun.connect
def _ended(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    _pulse.ended(task_id, task.name, succeeded=state == "SUCCESS")


@beat_init.connect
def _watch_beat(**_: Any) -> None:
    after_task_publish.connect(_sent, weak=False)


def _sent(**_: Any) -> None:
    touch()


def _keep_beating() -> None:
    failing = False
    while not _over.wait(EVERY):
        _pulse.beat()
        try:
            _pulse.runs.write()
            failing = False
        except Exception as error:
            if not failing:
                logger.warning("When jobs last ran cannot be written (%s); tried again.", type(error).__name__)
            failing = True
            connection.close()
    connection.close()

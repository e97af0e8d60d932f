"""When each job last ran: noted in the worker's memory, and written together every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from audit import clock
from operations.models import JobRun


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job that is over. seconds: how long it took."""

    at: datetime
    seconds: float
    succeeded: bool


class Runs:
    """The runs that are not written yet: of each job the last that succeeded and the last that failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, bool], Run] = {}

    def note(self, task: str, run: Run) -> None:
        with self._lock:
            self._last[task, run.succeeded] = run

    def write(self) -> None:
        """Write what was noted. Errors: DatabaseError; then it is noted still, unless there is newer."""
        with self._lock:
            last, self._last = self._last, {}
        try:
            _write(last)
        except Exception:
            with self._lock:
                self._last = {**last, **self._last}
            raise


def of_the_clock() -> frozenset[str]:
    """Return the names of the tasks that run by the clock."""
    return frozenset(entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values())


def last_successes() -> dict[str, datetime | None]:
    """Return when each job that runs by the clock last succeeded; None: it never has. Errors: DatabaseError."""
    found = dict(JobRun.objects.values_list("task", "succeeded_at"))
    return {task: found.get(task) for task in sorted(of_the_clock())}


def last_beat() -> datetime | None:
    """Return when a worker last was through with a job that beat had sent, well or not. Errors: DatabaseError."""
    runs = JobRun.objects.filter(task__in=of_the_clock()).values_list("succeeded_at", "failed_at")
    return max((at for run in runs for at in run if at is not None), default=None)


def age(at: datetime | None) -> float | None:
    """Return the seconds since `at`; a clock that was set back makes nothing younger than now."""
    return None if at is None else max(clock.now() - at, timedelta(0)).total_seconds()


def _write(last: dict[tuple[str, bool], Run]) -> None:
    if not last:
        return
    succeeded = [
        JobRun(task=task, succeeded_at=run.at, seconds=run.seconds) for (task, well), run in last.items() if well
    ]
    failed = [JobRun(task=task, failed_at=run.at) for (task, well), run in last.items() if not well]
    with transaction.atomic():
        _upsert(succeeded, ["succeeded_at", "seconds"])
        _upsert(failed, ["failed_at"])


def _upsert(runs: Iterable[JobRun], columns: list[str]) -> None:
    # In one order, so that two workers do not wait for each other.
    JobRun.objects.bulk_create(
        sorted(runs, key=lambda run: run.task), update_conflicts=True, unique_fields=["task"], update_fields=columns
    )

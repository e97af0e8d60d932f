"""What a worker takes for its own life, and what the jobs leave of their runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from audit import clock
from operations import jobs
from operations.jobs import Run, Runs
from operations.models import JobRun
from operations.pulse import WorkerPulse


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what sets the pulse's clock."""
    moment = [100.0]
    monkeypatch.setattr("operations.pulse.time.monotonic", lambda: moment[0])

    def set_to(seconds: float) -> None:
        moment[0] = 100.0 + seconds

    return set_to


def made(touched: list[int]) -> WorkerPulse:
    return WorkerPulse(lambda: touched.append(1), busy_at_most=300)


def test_a_worker_lives_while_messages_reach_it(at: Any) -> None:
    touched: list[int] = []
    pulse = made(touched)
    at(3)
    pulse.beat()
    at(20)
    pulse.beat()
    assert len(touched) == 1
    pulse.reached()
    pulse.beat()
    assert len(touched) == 2


def test_a_worker_that_is_busy_lives_but_not_longer_than_a_job_may_take(at: Any) -> None:
    pulse = made([])
    pulse.began("one")
    at(250)
    assert pulse.is_alive()
    at(301)
    assert not pulse.is_alive()
    pulse.ended("one", "task", succeeded=True)
    assert pulse.is_alive()
    at(320)
    assert not pulse.is_alive()


@pytest.mark.django_db
def test_a_run_leaves_when_it_last_succeeded_and_when_it_failed() -> None:
    runs, now = Runs(), clock.now()
    runs.note("keys.tasks.expire_keys", Run(now, 0.5, succeeded=True))
    runs.write()
    runs.note("keys.tasks.expire_keys", Run(now + timedelta(seconds=5), 0.1, succeeded=False))
    runs.write()
    run = JobRun.objects.get()
    assert (run.succeeded_at, run.failed_at, run.seconds) == (now, now + timedelta(seconds=5), 0.5)
    assert jobs.last_beat() == run.failed_at
    assert jobs.last_successes()["keys.tasks.expire_keys"] == now
    assert jobs.last_successes()["audit.tasks.seal"] is None


def test_what_could_not_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    written: list[dict[Any, Run]] = []

    def away(_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(jobs, "_write", away)
    runs.note("one", Run(clock.now(), 1, succeeded=True))
    with pytest.raises(DatabaseError):
        runs.write()
    monkeypatch.setattr(jobs, "_write", written.append)
    runs.note("two", Run(clock.now(), 1, succeeded=True))
    runs.write()
    assert {task for task, _ in written[0]} == {"one", "two"}

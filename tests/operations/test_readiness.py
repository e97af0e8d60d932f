"""What probes hear: /healthz and /readyz."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.db import connection
from pytest_django.fixtures import Settings

from audit import clock
from audit.sealing import seal
from operations import readiness
from operations.models import JobRun
from tests.operations.asking import Watcher
from tests.servers import killable_redis


@pytest.fixture
def working(transactional_db: None) -> None:
    """A worker was through with a job a moment ago, and the log is sealed."""
    JobRun.objects.create(task="keys.tasks.expire_keys", succeeded_at=clock.now())
    seal()


def test_alive_is_said_without_the_database(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ask_database", lambda: pytest.fail("the database was asked"))
    answer = watcher.get("/healthz", host="10.0.0.1:8000")
    assert (answer.status, answer.json) == (200, {"status": "alive"})
    assert answer.headers["cache-control"] == "no-store"


def test_ready_says_of_each_check_how_it_is_and_how_old(working: None, watcher: Watcher) -> None:
    answer = watcher.get("/readyz")
    assert (answer.status, answer.json["status"]) == (200, "ready")
    checks = answer.json["checks"]
    redis = "ok" if django_settings.REDIS_URL else "unused"
    assert {name: check["state"] for name, check in checks.items()} == {
        "database": "ok",
        "redis": redis,
        "migrations": "ok",
        "beat": "ok",
        "checkpoint": "ok",
    }
    assert 0 <= checks["beat"]["age_seconds"] < 30
    assert 0 <= checks["checkpoint"]["age_seconds"] < 30
    assert watcher.get("/readyz", method="HEAD").status == 200


def test_a_beat_and_a_checkpoint_that_are_late_are_not_ready(working: None, watcher: Watcher) -> None:
    JobRun.objects.update(succeeded_at=clock.now() - timedelta(minutes=5))
    answer = watcher.get("/readyz")
    assert answer.status == 503
    assert answer.json["status"] == "not ready"
    assert answer.json["checks"]["beat"]["state"] == "late"
    assert 299 < answer.json["checks"]["beat"]["age_seconds"] < 330
    assert watcher.get("/readyz?exclude=beat").status == 200


def test_nothing_that_ever_ran_is_late_without_an_age(watcher: Watcher) -> None:
    answer = watcher.get("/readyz")
    assert answer.status == 503
    assert answer.json["checks"]["beat"] == answer.json["checks"]["checkpoint"] == {"state": "late"}
    assert watcher.get("/readyz?exclude=beat,checkpoint").status == 200


def test_a_job_that_fails_is_a_beat_all_the_same(working: None, watcher: Watcher) -> None:
    JobRun.objects.update(succeeded_at=None, failed_at=clock.now())
    assert watcher.get("/readyz").status == 200


def test_a_job_that_beat_does_not_send_is_no_beat(working: None, watcher: Watcher) -> None:
    JobRun.objects.update(task="somebody.tasks.else")
    assert watcher.get("/readyz").json["checks"]["beat"] == {"state": "late"}


def test_a_migration_that_is_not_applied_is_named_by_its_check(working: None, watcher: Watcher) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_migrations SET name = '0000_older' WHERE app = 'operations'")
        try:
            answer = watcher.get("/readyz")
        finally:
            cursor.execute("UPDATE django_migrations SET name = '0001_initial' WHERE app = 'operations'")
    assert (answer.status, answer.json["checks"]["migrations"]) == (503, {"state": "missing"})
    assert answer.json["checks"]["database"] == {"state": "ok"}


def test_a_check_that_nobody_knows_is_refused_and_not_echoed(watcher: Watcher) -> None:
    answer = watcher.get("/readyz?exclude=beat,kt_gk_secret")
    assert answer.status == 400
    assert b"kt_gk" not in answer.body
    assert answer.json["checks"] == list(readiness.NAMES)


def test_what_is_wrong_with_the_database_is_told_in_one_word(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> readiness.Checks:
        raise RuntimeError("password of keeptrusts at database.internal")

    monkeypatch.setattr(readiness, "ask_database", broken)
    answer = watcher.get("/readyz")
    assert (answer.status, answer.json["checks"]["database"]) == (503, {"state": "failed"})
    assert b"internal" not in answer.body


def test_a_database_that_hangs_is_said_within_two_seconds_and_not_asked_twice(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def hang() -> readiness.Checks:
        asked.append(time.monotonic())
        time.sleep(4)
        return {}

    monkeypatch.setattr(readiness, "ask_database", hang)
    monkeypatch.setattr(readiness, "HOLDS_FOR", 0.1)
    for _ in range(2):
        began = time.monotonic()
        answer = watcher.get("/readyz")
        assert time.monotonic() - began < 2
        assert (answer.status, answer.json["checks"]["database"]) == (503, {"state": "no answer"})
        time.sleep(0.2)
    assert watcher.get("/healthz").status == 200
    assert asked == []


def test_many_questions_are_one_to_the_database(
    working: None, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = readiness.ask_database

    def counting() -> readiness.Checks:
        asked.append(1)
        return ask()

    monkeypatch.setattr(readiness, "ask_database", counting)
    monkeypatch.setattr(readiness, "HOLDS_FOR", 60)
    assert {watcher.get("/readyz").status for _ in range(20)} == {200}
    assert len(asked) == 1


@pytest.fixture
def stopped_redis(settings: Settings) -> Iterator[None]:
    with killable_redis() as server:
        settings.REDIS_URL = server.url
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.needs("redis")
@pytest.mark.postgresql
def test_a_redis_that_hangs_or_is_gone_is_said_in_time(
    working: None, watcher: Watcher, stopped_redis: None, settings: Settings
) -> None:
    began = time.monotonic()
    answer = watcher.get("/readyz")
    assert time.monotonic() - began < 2
    assert answer.json["checks"]["redis"]["state"] in {"failed", "no answer"}
    assert answer.status == 503
    assert watcher.get("/readyz?exclude=redis").status == 200

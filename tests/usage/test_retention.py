"""Days of usage events: made ahead, dropped after the retention, and never an event lost for want of one."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import time_machine
from django.db import connection, transaction
from pytest_django import Settings

from keys import lifecycle
from keys.issuing import IssuedKey
from tests.factories import TESTS, make_gateway, make_key
from tests.processes import ROOT, clean_environment
from usage import partitions, tasks
from usage.events import NewEvent, insert_new
from usage.ingest import ingest
from usage.models import KeptEvents, Outcome, UsageBucket, UsageEvent
from usage.partitions import DAY, DAYS_AHEAD, DAYS_BACK, drop_days, make_days
from usage.retention import forget_events

NOW = datetime(2030, 1, 31, 12, 2, tzinfo=UTC)
TODAY = NOW.date()


def reported(issued: IssuedKey, gateway_id: UUID, *times: datetime) -> int:
    """Report one event for each of the times; return how many were accepted."""
    events: list[Any] = [
        {"id": f"e-{at:%m%d}", "occurred_at": at.isoformat(), "key_id": str(issued.key.id), "key_version": 1}
        for at in times
    ]
    return ingest(gateway_id=gateway_id, events=events).accepted


def kept(issued: IssuedKey, gateway_id: UUID, *times: datetime) -> None:
    """Put events there directly: also such as are too old to be reported."""
    for at in times:
        event = NewEvent(gateway_id, f"e-{at:%m%d}", at, at, Outcome.SERVED)
        with transaction.atomic():
            insert_new([event._replace(key_id=issued.key.id, version_id=issued.version.id)])


def times_kept() -> list[datetime]:
    return list(UsageEvent.objects.order_by("occurred_at").values_list("occurred_at", flat=True))


def rows_in(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def partition(day: date) -> str:
    return f"{partitions.EVENTS}_{day:%Y%m%d}"


@pytest.fixture
def no_days(transactional_db: None) -> Any:
    """Leave the default partition alone there, before and after the test."""
    yield
    with connection.cursor() as cursor:
        for day in partitions.days():
            cursor.execute(f"DROP TABLE {partition(day)}")


@pytest.mark.django_db
def test_events_are_deleted_after_the_retention_and_not_before(settings: Settings) -> None:
    settings.KEEPTRUSTS_USAGE_RETENTION = timedelta(days=35)
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False):
        kept(issued, gateway_id, NOW - timedelta(days=35, seconds=1), NOW - timedelta(days=35), NOW)
        assert forget_events() == 1
        assert times_kept() == [NOW - timedelta(days=35), NOW]
        assert KeptEvents.objects.get().since == NOW - timedelta(days=35)
        assert forget_events() == 0


@pytest.mark.django_db
def test_a_run_ends_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.retention.BATCH", 2)
    monkeypatch.setattr("usage.retention.MOST_BATCHES", 2)
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False):
        kept(issued, gateway_id, *(NOW - timedelta(days=40 + number) for number in range(7)))
        assert [forget_events() for _ in range(3)] == [4, 3, 0]


@pytest.mark.django_db
def test_events_are_known_to_be_kept_from_the_last_deletion_on(settings: Settings) -> None:
    """A longer retention later brings nothing back."""
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False):
        settings.KEEPTRUSTS_USAGE_RETENTION = timedelta(days=100)
        kept(issued, gateway_id, NOW - timedelta(days=90), NOW - timedelta(days=101))
        assert forget_events() == 1
        settings.KEEPTRUSTS_USAGE_RETENTION = timedelta(days=35)
        assert forget_events() == 1
        settings.KEEPTRUSTS_USAGE_RETENTION = timedelta(days=100)
        assert forget_events() == 0
        assert KeptEvents.objects.get().since == NOW - timedelta(days=35)


@pytest.mark.once
def test_a_retention_in_which_events_could_count_twice_is_refused_at_the_start(tmp_path: Path) -> None:
    def starting(days: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(KEEPTRUSTS_USAGE_RETENTION_DAYS=days, KEEPTRUSTS_DATA_DIR=str(tmp_path))
        command = [sys.executable, "-c", "import keeptrusts.settings"]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert starting("31").returncode == 0
    refused = starting("30")
    assert refused.returncode == 1
    assert "KEEPTRUSTS_USAGE_RETENTION_DAYS is 30, and must be at least 31" in refused.stderr


@pytest.mark.django_db
@pytest.mark.sqlite
def test_on_sqlite_there_are_no_partitions() -> None:
    assert make_days(TODAY) == 0


@pytest.mark.postgresql
def test_days_are_made_for_every_event_that_may_come(no_days: None) -> None:
    assert make_days(TODAY) == DAYS_BACK + 1 + DAYS_AHEAD
    assert (partitions.days()[0], partitions.days()[-1]) == (TODAY - DAY * 30, TODAY + DAY * 7)
    assert make_days(TODAY) == 0
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False):
        times = [NOW - timedelta(days=30), NOW, NOW + timedelta(minutes=5)]
        assert reported(issued, gateway_id, *times) == 3
    assert rows_in(partitions.DEFAULT) == 0
    assert times_kept() == times
    assert make_days(TODAY + DAY) == 1


@pytest.mark.postgresql
def test_an_event_whose_day_is_missing_is_taken_and_moves_when_the_day_is_made(no_days: None) -> None:
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False):
        assert reported(issued, gateway_id, NOW - DAY, NOW) == 2
        assert rows_in(partitions.DEFAULT) == 2
        before = list(UsageEvent.objects.values())
        make_days(TODAY)
        assert list(UsageEvent.objects.values()) == before
        assert (rows_in(partitions.DEFAULT), rows_in(partition(TODAY)), rows_in(partition(TODAY - DAY))) == (0, 1, 1)
        # Still the same events, and still checked against what they refer to.
        assert reported(issued, gateway_id, NOW - DAY, NOW) == 0
    assert UsageBucket.objects.count() == 2


@pytest.mark.postgresql
def test_days_past_the_retention_are_dropped_whole(no_days: None, settings: Settings) -> None:
    settings.KEEPTRUSTS_USAGE_RETENTION = timedelta(days=35)
    issued, gateway_id = make_key(), make_gateway().gateway.id
    old = NOW - timedelta(days=40)
    make_days(old.date())
    kept(issued, gateway_id, old, NOW - timedelta(days=36), NOW - timedelta(days=35))
    with time_machine.travel(NOW, tick=False):
        tasks.tend_events()
    assert partitions.days()[0] == TODAY - DAY * 35
    assert times_kept() == [NOW - timedelta(days=35)]
    assert KeptEvents.objects.get().since == datetime(2029, 12, 27, tzinfo=UTC)


@pytest.mark.postgresql
def test_a_day_that_is_in_use_is_dropped_by_the_next_run_and_ingest_waits_for_neither(no_days: None) -> None:
    make_days(TODAY)
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        with transaction.atomic():
            UsageEvent.objects.count()
            reading.set()
            done.wait(30)
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert reading.wait(10)
        assert drop_days(TODAY - DAY * 29) == 0
        issued, gateway_id = make_key(), make_gateway().gateway.id
        with time_machine.travel(NOW, tick=False):
            assert reported(issued, gateway_id, NOW) == 1
    finally:
        done.set()
        reader.join()
    assert drop_days(TODAY - DAY * 29) == 1
    assert TODAY - DAY * 30 not in partitions.days()


def made_meanwhile(today: date) -> int:
    """Make days in another thread, while the test's own transaction is open."""
    made: list[int] = []

    def make() -> None:
        made.append(make_days(today))
        connection.close()

    maker = threading.Thread(target=make)
    maker.start()
    maker.join(30)
    return sum(made)


@pytest.mark.postgresql
def test_ingest_under_way_keeps_no_day_from_being_made(no_days: None) -> None:
    make_days(TODAY - DAY)
    issued, gateway_id = make_key(), make_gateway().gateway.id
    with time_machine.travel(NOW, tick=False), transaction.atomic():
        assert reported(issued, gateway_id, NOW) == 1
        assert made_meanwhile(TODAY) == 1


@pytest.mark.postgresql
def test_a_day_is_made_by_the_next_run_where_a_key_is_being_changed(no_days: None) -> None:
    """Events refer to keys, so that making a day has to wait for who writes these: not for long."""
    make_days(TODAY - DAY)
    issued = make_key()
    with transaction.atomic():
        lifecycle.edit(actor=TESTS, key_id=issued.key.id, changed={"description": "in use"})
        assert made_meanwhile(TODAY) == 0
    assert make_days(TODAY) == 1


@pytest.mark.postgresql
def test_two_at_once_make_each_day_once(no_days: None) -> None:
    made: list[int] = []

    def make() -> None:
        made.append(make_days(TODAY))
        connection.close()

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make_days(TODAY) + sum(made) == DAYS_BACK + 1 + DAYS_AHEAD
    assert len(partitions.days()) == DAYS_BACK + 1 + DAYS_AHEAD

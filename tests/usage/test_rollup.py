"""The figures of the last 24 hours, brought up to date by the job."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection, transaction

from keys import lifecycle
from keys.issuing import IssuedKey
from tests.factories import TESTS, make_gateway, make_key
from tests.processes import eventually
from usage import figures, tasks
from usage.models import KeyMetrics, UsageFlush
from usage.rollup import forget_flushes, roll_up
from usage.sums import BucketKey, Sums, add, bucket_start

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 31, 12, 2, tzinfo=UTC)


def serve(issued: IssuedKey, *statuses: int | None, ago: timedelta = timedelta(0), version_id: int = 0) -> None:
    gateway = make_gateway().gateway.id
    sums, at = Sums(), NOW - ago
    bucket = BucketKey(bucket_start(at), version_id or issued.version.id, None, gateway)
    for status in statuses:
        sums.request(bucket, key_id=issued.key.id, at=at, status=status)
    add(sums)


def figures_of(issued: IssuedKey) -> tuple[int, int, int]:
    metrics = KeyMetrics.objects.get(pk=issued.key.id)
    return metrics.requests_24h, metrics.reported_24h, metrics.errors_24h


def test_it_sums_the_last_24_hours_of_every_version() -> None:
    with time_machine.travel(NOW, tick=False):
        issued, quiet = make_key(), make_key()
        rotated = lifecycle.rotate(actor=TESTS, key_id=issued.key.id)
        serve(issued, 200, 404, 500, None)
        serve(issued, 200, ago=timedelta(hours=23, minutes=59), version_id=rotated.version.id)
        serve(issued, 200, 200, ago=timedelta(hours=24, minutes=10))
        serve(quiet, 200, ago=timedelta(days=2))
        assert roll_up() == 2
        assert figures_of(issued) == (5, 4, 2)
        assert figures_of(quiet) == (0, 0, 0)
        assert KeyMetrics.objects.get(pk=issued.key.id).total_requests == 7
        live = figures.figures(figures.of_key(issued.key.id))
        assert (live.requests, live.reported, live.errors) == figures_of(issued)


def test_a_second_run_changes_nothing() -> None:
    with time_machine.travel(NOW, tick=False):
        issued = make_key()
        serve(issued, 200)
        assert [roll_up(), roll_up()] == [1, 0]


def test_traffic_that_has_slid_out_is_zeroed() -> None:
    with time_machine.travel(NOW, tick=False) as traveller:
        issued = make_key()
        serve(issued, 500)
        roll_up()
        assert figures_of(issued) == (1, 1, 1)
        traveller.shift(timedelta(hours=24, minutes=5))
        assert [roll_up(), roll_up()] == [1, 0]
        assert figures_of(issued) == (0, 0, 0)


def test_only_keys_that_were_counted_or_whose_window_slides_are_looked_at() -> None:
    with time_machine.travel(NOW, tick=False) as traveller:
        early, late, quiet = make_key(), make_key(), make_key()
        serve(early, 200, ago=timedelta(hours=23))
        serve(late, 200)
        serve(quiet, 200, ago=timedelta(days=3))
        assert [roll_up(), roll_up()] == [3, 0]
        serve(late, 200)
        assert [roll_up(), roll_up()] == [1, 0]
        traveller.shift(timedelta(hours=1, minutes=10))
        assert [roll_up(), roll_up()] == [1, 0]
        assert [figures_of(key)[0] for key in (early, late, quiet)] == [0, 2, 0]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_what_is_counted_while_it_sums_is_not_missed() -> None:
    issued = make_key()
    with time_machine.travel(NOW, tick=False):
        serve(issued, 200)
        with transaction.atomic():
            serve(issued, 200)
            meanwhile = threading.Thread(target=roll_up_and_leave)
            meanwhile.start()
            assert eventually(waits_for_a_lock)
        meanwhile.join()
        assert figures_of(issued) == (2, 2, 0)


def roll_up_and_leave() -> None:
    roll_up()
    connection.close()


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_batch_ends_and_another_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.rollup.BATCH", 2)
    with time_machine.travel(NOW, tick=False):
        keys = [make_key() for _ in range(5)]
        for issued in keys:
            serve(issued, 200)
        assert roll_up() == 5
        assert [figures_of(issued) for issued in keys] == [(1, 1, 0)] * 5


def test_flushes_are_forgotten_after_a_day() -> None:
    with time_machine.travel(NOW, tick=False):
        old, young = uuid4(), uuid4()
        UsageFlush.objects.create(id=old, at=NOW - timedelta(days=1, seconds=1))
        UsageFlush.objects.create(id=young, at=NOW - timedelta(hours=23))
        assert forget_flushes() == 1
        assert UsageFlush.objects.get().pk == young


def test_the_task_does_both() -> None:
    with time_machine.travel(NOW, tick=False):
        issued = make_key()
        serve(issued, 200)
        UsageFlush.objects.create(id=uuid4(), at=NOW - timedelta(days=2))
        tasks.roll_up()
        assert figures_of(issued) == (1, 1, 0)
        assert not UsageFlush.objects.exists()

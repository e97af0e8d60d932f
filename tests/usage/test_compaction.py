"""Buckets of five minutes become buckets of an hour, and every sum stays what it was."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.db.models import Sum

from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.factories import make_gateway, make_key
from usage.compaction import compact
from usage.figures import figures, of_key, series
from usage.models import KeyMetrics, UsageBucket
from usage.sums import SUM_FIELDS, BucketKey, Sums, add, bucket_start

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 31, 12, 2, tzinfo=UTC)
OLD = datetime(2030, 1, 10, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _now() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def serve(issued: IssuedKey, gateway: Gateway, *times: datetime, model: str = "", status: int = 200) -> None:
    sums = Sums()
    for at in times:
        bucket = BucketKey(bucket_start(at), issued.version.id, None, gateway.id, model)
        sums.request(bucket, key_id=issued.key.id, at=at, status=status, latency_ms=30, input_tokens=7)
        sums.denial(bucket._replace(version_id=None))
    with transaction.atomic():
        add(sums)


def totals() -> dict[str, int]:
    return UsageBucket.objects.aggregate(**{name: Sum(name) for name in SUM_FIELDS})


def minutes(*numbers: int, of: datetime = OLD) -> list[datetime]:
    return [of + timedelta(minutes=number) for number in numbers]


def test_an_hour_becomes_one_bucket_for_each_version_gateway_and_model() -> None:
    issued, other, gateway = make_key(), make_key(), make_gateway().gateway
    serve(issued, gateway, *minutes(3, 4, 26, 59))
    serve(issued, gateway, *minutes(14, 15), model="gpt", status=500)
    serve(other, gateway, *minutes(30))
    before = totals()
    assert compact() > 0
    assert totals() == before
    assert set(UsageBucket.objects.values_list("start", "hourly")) == {(OLD, True)}
    served = UsageBucket.objects.filter(version__isnull=False).values_list("version", "model", "requests", "status_5xx")
    expected = {(issued.version.id, "", 4, 0), (issued.version.id, "gpt", 2, 2), (other.version.id, "", 1, 0)}
    assert set(served) == expected
    assert UsageBucket.objects.get(version=None, model="").denials == 5


def test_a_second_run_finds_nothing() -> None:
    serve(make_key(), make_gateway().gateway, *minutes(0, 5, 70))
    compact()
    rows = list(UsageBucket.objects.order_by("pk").values())
    assert compact() == 0
    assert list(UsageBucket.objects.order_by("pk").values()) == rows


def test_what_is_younger_than_seven_days_stays_as_it_is() -> None:
    issued, gateway = make_key(), make_gateway().gateway
    young = NOW - 7 * DAY
    serve(issued, gateway, young, young - timedelta(minutes=5), young - timedelta(hours=2))
    compact()
    assert UsageBucket.objects.filter(hourly=False, version__isnull=False).count() == 2
    assert UsageBucket.objects.filter(hourly=True, version__isnull=False).count() == 1


@pytest.mark.parametrize("minute", [0, 3, 25])
def test_what_comes_late_for_a_compacted_hour_is_counted_at_once_and_merged_by_the_next_run(minute: int) -> None:
    issued, gateway = make_key(), make_gateway().gateway
    serve(issued, gateway, *minutes(3, 26))
    compact()
    serve(issued, gateway, *minutes(minute))
    assert totals()["requests"] == KeyMetrics.objects.get().total_requests == 3
    compact()
    assert UsageBucket.objects.get(version__isnull=False).requests == 3
    assert totals()["denials"] == 3


def test_batches_smaller_than_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.compaction.BATCH", 2)
    issued, gateway = make_key(), make_gateway().gateway
    for model in "abc":
        serve(issued, gateway, *minutes(*range(0, 120, 10)), model=model)
    before = totals()
    compact()
    assert totals() == before
    assert UsageBucket.objects.filter(version__isnull=False, requests=6, hourly=True).count() == 6
    assert not UsageBucket.objects.filter(hourly=False).exists()


@pytest.mark.parametrize(("window", "step"), [(DAY, HOUR), (7 * DAY, 6 * HOUR), (10 * DAY, HOUR), (30 * DAY, DAY)])
def test_figures_and_series_say_the_same_as_before(window: timedelta, step: timedelta) -> None:
    issued, gateway = make_key(), make_gateway().gateway
    # Nothing in the hour in which a window begins: there an hour's bucket is right to within an hour.
    serve(issued, gateway, *(NOW - timedelta(minutes=187 * number + 90) for number in range(240)))
    scope, edge = of_key(issued.key.id), NOW - window
    UsageBucket.objects.filter(start__gt=edge - HOUR, start__lt=edge + HOUR).delete()
    before = figures(scope, window=window), series(scope, window=window, step=step)
    assert before[0].requests > 5
    compact()
    assert (figures(scope, window=window), series(scope, window=window, step=step)) == before


def test_an_hour_that_a_window_begins_in_counts_whole() -> None:
    issued, gateway = make_key(), make_gateway().gateway
    serve(issued, gateway, NOW - 10 * DAY + timedelta(minutes=50), NOW - 10 * DAY - HOUR)
    compact()
    assert figures(of_key(issued.key.id), window=10 * DAY).requests == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_sums_stay_exact_while_late_events_are_counted() -> None:
    issued, gateway = make_key(), make_gateway().gateway
    serve(issued, gateway, *minutes(*range(60)))
    counting, failed = threading.Event(), []

    def count_late() -> None:
        try:
            for number in range(150):
                serve(issued, gateway, *minutes(number % 60, (number * 7) % 60, 0))
                counting.set()
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=count_late) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert counting.wait(10)
    while any(thread.is_alive() for thread in threads):
        compact()
    for thread in threads:
        thread.join()
    compact()
    assert failed == []
    assert totals()["requests"] == totals()["denials"] == KeyMetrics.objects.get().total_requests == 60 + 2 * 150 * 3
    assert set(UsageBucket.objects.values_list("start", "hourly")) == {(OLD, True)}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_bucket_in_the_hands_of_ingest_is_left_to_the_next_run() -> None:
    issued, gateway = make_key(), make_gateway().gateway
    serve(issued, gateway, *minutes(5, 10))
    with transaction.atomic():
        UsageBucket.objects.select_for_update().get(start=OLD + timedelta(minutes=5), version__isnull=False)
        other = threading.Thread(target=compact_and_leave)
        other.start()
        other.join(30)
        assert not other.is_alive()
    assert totals()["requests"] == 2
    assert UsageBucket.objects.filter(hourly=False).count() == 1
    compact()
    assert totals()["requests"] == 2
    assert not UsageBucket.objects.filter(hourly=False).exists()


def compact_and_leave() -> None:
    compact()
    connection.close()

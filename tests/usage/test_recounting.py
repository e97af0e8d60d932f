"""The nightly recount: what the buckets of reporting gateways say is what their events say, or it is made so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.db.models import F

from audit.models import AuditEntry
from gateways.models import Gateway, UsageSource
from gateways.registry import edit_gateway
from keeptrusts.celery import app
from keys import lifecycle
from keys.issuing import IssuedKey
from tests.factories import TESTS, make_gateway, make_group, make_key
from usage import tasks
from usage.compaction import compact
from usage.ingest import ingest
from usage.models import KeptEvents, KeyMetrics, UsageBucket, UsageEvent, VersionMetrics
from usage.recounting import first_day, recount
from usage.sums import BucketKey, Sums, add, bucket_start
from usage.tending import TENDER_LOCK

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 31, 12, 2, tzinfo=UTC)
DAY = NOW.date() - timedelta(days=1)
AT = datetime(2030, 1, 30, 8, 0, tzinfo=UTC)


@pytest.fixture
def reporter() -> Iterator[Gateway]:
    """A gateway that has reported for two months, and the clock at NOW."""
    with time_machine.travel(NOW - timedelta(days=60), tick=False):
        gateway = make_gateway(usage_source=UsageSource.REPORT).gateway
    with time_machine.travel(NOW, tick=False):
        yield gateway


def report(gateway: Gateway, issued: IssuedKey, *minutes: int, at: datetime = AT, **facts: Any) -> None:
    facts = {"status": 200, "latency_ms": 40, "model": "gpt", "input_tokens": 5, "output_tokens": 2, **facts}
    events = [
        {
            "id": f"{issued.key.name}-{minute}-{facts['status']}",
            "occurred_at": (at + timedelta(minutes=minute)).isoformat(),
            "key_id": str(issued.key.id),
            "key_version": issued.version.number,
            **facts,
        }
        for minute in minutes
    ]
    assert ingest(gateway_id=gateway.pk, events=events).accepted == len(events)


def sums() -> list[dict[str, Any]]:
    """Every bucket that says anything, without its id."""
    columns = [field.attname for field in UsageBucket._meta.concrete_fields if field.name not in {"id", "hourly"}]
    return list(UsageBucket.objects.exclude(requests=0, denials=0).order_by(*columns[:5]).values(*columns))


def entries() -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action="usage.recounted").order_by("id"))


def test_sums_that_are_right_are_left_alone(reporter: Gateway) -> None:
    issued = make_key(consumer_group=make_group())
    report(reporter, issued, 0, 7, 59, 60)
    report(reporter, issued, 3, status=503, latency_ms=99_999)
    report(reporter, issued, 4, status=None, latency_ms=None, model=None, input_tokens=None)
    rows = list(UsageBucket.objects.order_by("pk").values())
    assert recount(DAY)
    assert list(UsageBucket.objects.order_by("pk").values()) == rows
    assert entries() == []


@pytest.mark.parametrize("latency", [0, 5, 6, 10_000, 10_001, 2_147_483_647])
@pytest.mark.parametrize("status", [100, 199, 200, 399, 400, 599])
def test_every_class_is_counted_as_ingest_counts_it(reporter: Gateway, status: int, latency: int) -> None:
    report(reporter, make_key(), 0, status=status, latency_ms=latency)
    assert recount(DAY)
    assert entries() == []


def test_what_lacks_and_what_is_too_much_is_repaired_and_reported(
    reporter: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    issued, other = make_key(), make_key()
    report(reporter, issued, 0, 1, 7, 8)
    report(reporter, other, 0)
    right, totals = sums(), KeyMetrics.objects.order_by("pk").values_list("pk", "total_requests", "total_errors")
    right_totals = list(totals)
    buckets = UsageBucket.objects.filter(version=issued.version.id).order_by("start")
    buckets.filter(start=AT).update(requests=F("requests") + 5, status_5xx=5, latency_above=1)
    buckets.exclude(start=AT).delete()
    KeyMetrics.objects.filter(pk=issued.key.id).update(total_requests=99, total_errors=5)
    with caplog.at_level(logging.WARNING, "usage.recounting"):
        assert recount(DAY)
    assert sums() == right
    assert list(totals) == right_totals
    assert VersionMetrics.objects.get(pk=issued.version.id).total_requests == 4
    assert KeyMetrics.objects.get(pk=issued.key.id).stale
    (entry,) = entries()
    assert (entry.object_id, entry.actor_label, entry.detail["buckets"]) == (str(reporter.pk), "recount", 1)
    (difference,) = entry.detail["differences"]
    assert (difference["key"], difference["model"]) == (str(issued.key.id), "gpt")
    # Five too many, and two of the others gone.
    assert (difference["added"]["requests"], difference["added"]["status_5xx"]) == (-3, -5)
    assert str(reporter.pk) in caplog.text
    assert recount(DAY)
    assert len(entries()) == 1


def test_a_bucket_of_nothing_is_emptied(reporter: Gateway) -> None:
    issued, invented = make_key(), Sums()
    bucket = BucketKey(bucket_start(AT), issued.version.id, None, reporter.pk, "never seen")
    invented.request(bucket, key_id=issued.key.id, at=AT, status=200, input_tokens=1_000)
    add(invented)
    assert recount(DAY)
    assert sums() == []
    assert KeyMetrics.objects.get().total_requests == 0


def test_hours_that_were_compacted_are_compared_and_repaired_too(reporter: Gateway) -> None:
    issued, at = make_key(), AT - timedelta(days=20)
    report(reporter, issued, 0, 7, 59, at=at)
    compact()
    right = sums()
    assert recount(at.date())
    assert entries() == []
    UsageBucket.objects.update(requests=7, status_2xx=7)
    assert recount(at.date())
    compact()
    assert sums() == right
    assert len(entries()) == 1


def test_denials_are_nobody_s_report(reporter: Gateway) -> None:
    issued, denied = make_key(), Sums()
    for version_id in (issued.version.id, None):
        denied.denial(BucketKey(bucket_start(AT), version_id, None, reporter.pk))
    add(denied)
    report(reporter, issued, 0, model=None)
    UsageBucket.objects.filter(requests=1).update(requests=0)
    assert recount(DAY)
    assert sorted(row["denials"] for row in sums()) == [1, 1]
    assert KeyMetrics.objects.get().total_requests == 1


def test_events_of_a_rotated_key_stay_with_their_version(reporter: Gateway) -> None:
    issued = make_key()
    report(reporter, issued, 0)
    rotated = lifecycle.rotate(actor=TESTS, key_id=issued.key.id)
    report(reporter, rotated, 1)
    right = sums()
    UsageBucket.objects.all().delete()
    assert recount(DAY)
    assert sums() == right
    assert entries()[0].detail["buckets"] == 2


def test_gateways_that_are_counted_when_they_ask_have_no_events_to_be_held_against() -> None:
    with time_machine.travel(NOW, tick=False):
        issued, asked = make_key(), Sums()
        bucket = BucketKey(bucket_start(AT), issued.version.id, None, make_gateway().gateway.pk)
        asked.request(bucket, key_id=issued.key.id, at=AT)
        add(asked)
        assert recount(DAY)
        assert sums()[0]["requests"] == 1


def test_what_was_counted_before_a_gateway_began_to_report_is_left_alone() -> None:
    with time_machine.travel(AT + timedelta(minutes=90), tick=False):
        gateway = make_gateway().gateway
        edit_gateway(actor=TESTS, gateway_id=gateway.pk, changed={"usage_source": UsageSource.REPORT})
        edit_gateway(actor=TESTS, gateway_id=gateway.pk, changed={"name": "renamed"})
    with time_machine.travel(NOW, tick=False):
        issued, asked = make_key(), Sums()
        for hours in range(4):
            bucket = BucketKey(bucket_start(AT + timedelta(hours=hours)), issued.version.id, None, gateway.pk)
            asked.request(bucket, key_id=issued.key.id, at=AT)
        add(asked)
        assert recount(DAY)
        # It switched in the second hour: from the third on, its own reports are the whole truth.
        assert [row["start"].hour for row in sums()] == [8, 9]


def test_hours_whose_events_are_gone_are_left_alone(reporter: Gateway) -> None:
    issued = make_key()
    report(reporter, issued, 0, 60, 120)
    right = sums()
    KeptEvents.objects.create(since=AT + timedelta(minutes=61))
    UsageEvent.objects.filter(occurred_at__lt=AT + timedelta(minutes=61)).delete()
    assert recount(DAY)
    assert sums() == right
    assert entries() == []


def test_the_hour_that_still_runs_is_left_for_the_next_night(reporter: Gateway) -> None:
    issued = make_key()
    report(reporter, issued, 0, at=NOW - timedelta(minutes=1))
    UsageBucket.objects.update(requests=3)
    assert recount(NOW.date())
    assert sums()[0]["requests"] == 3


@pytest.fixture
def at_once() -> Iterator[None]:
    """Let messages to workers be acted on where they are sent."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@pytest.mark.usefixtures("at_once")
def test_the_task_goes_from_day_to_day(reporter: Gateway) -> None:
    issued = make_key()
    oldest = datetime.combine(first_day(), AT.time(), UTC)
    assert first_day() == date(2029, 12, 28)
    ats = [oldest + timedelta(days=5), AT]
    for at in ats:
        report(reporter, issued, 0, at=at)
    right = sums()
    UsageBucket.objects.update(requests=9)
    tasks.recount()
    assert sums() == right
    assert [entry.detail["hour"] for entry in entries()] == [at.isoformat() for at in ats]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_day_is_left_for_later_while_somebody_else_tends_the_tables(reporter: Gateway) -> None:
    held, done = threading.Event(), threading.Event()

    def tend() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [TENDER_LOCK])
            held.set()
            done.wait(30)
        connection.close()

    tender = threading.Thread(target=tend)
    tender.start()
    assert held.wait(10)
    assert not recount(DAY)
    done.set()
    tender.join()
    assert recount(DAY)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_it_is_exact_while_late_events_come_in(reporter: Gateway) -> None:
    """What ingest has committed half-way through a recount is neither taken for a difference nor lost in a repair."""
    issued, failed = make_key(), []
    minutes = [number % 60 for number in range(200)]

    def report_late() -> None:
        try:
            for number, minute in enumerate(minutes):
                report(reporter, issued, minute, status=200 + number // 60, model=f"m{number % 3}")
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    late = threading.Thread(target=report_late)
    late.start()
    repairs = 0
    while late.is_alive():
        # Something to repair each time.
        repairs += UsageBucket.objects.filter(model="m1").update(requests=F("requests") + 1)
        assert recount(DAY)
    late.join()
    assert recount(DAY)
    assert failed == []
    assert repairs > 0
    assert sum(row["requests"] for row in sums()) == UsageEvent.objects.count() == len(minutes)
    assert KeyMetrics.objects.get().total_requests == VersionMetrics.objects.get().total_requests == len(minutes)
    done = len(entries())
    assert recount(DAY)
    assert len(entries()) == done

"""What authorize counts: exactly, once, and not lost while the database is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.db.models import Sum

from access import tokens
from access.tokens import TokenKind
from gateways.models import UsageSource
from keys import lifecycle
from keys.groups import edit_group
from keys.issuing import IssuedKey
from keys.models import ConsumerGroup
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import Plane, question, running_plane
from usage.counting import Allowance, Batch, Counter, write
from usage.events import NewEvent
from usage.models import KeyMetrics, Outcome, UsageBucket, UsageEvent, UsageFlush, VersionMetrics
from usage.sums import BucketKey, Sums, add, bucket_start

NOON = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


def buckets() -> list[dict[str, Any]]:
    fields = ("version__number", "consumer_group__slug", "gateway__name", "requests", "denials")
    return list(UsageBucket.objects.order_by("version", "consumer_group", "gateway").values(*fields))


def test_three_calls_are_three_requests_and_three_events(plane: Plane) -> None:
    group, gateway = make_group("payments"), make_gateway("edge")
    issued = make_key(consumer_group=group)
    answers = [plane.authorize(gateway.value, issued.value) for _ in range(3)]
    plane.flush()
    expected = {"version__number": 1, "consumer_group__slug": "payments", "gateway__name": "edge"}
    assert buckets() == [{**expected, "requests": 3, "denials": 0}]
    metrics = KeyMetrics.objects.get()
    assert (metrics.pk, metrics.total_requests, metrics.total_reported) == (issued.key.id, 3, 0)
    assert metrics.error_rate is None
    assert VersionMetrics.objects.get().total_requests == 3
    events = UsageEvent.objects.order_by("occurred_at")
    assert [event.decision_id for event in events] == [answer.headers["x-keeptrusts-decision-id"] for answer in answers]
    assert {(event.outcome, event.key_id, event.status) for event in events} == {("served", issued.key.id, None)}
    assert metrics.last_used_at == VersionMetrics.objects.get().last_used_at == events[2].occurred_at


def test_each_version_is_counted_for_itself(plane: Plane) -> None:
    token, first = make_gateway().value, make_key()
    second = lifecycle.rotate(actor=TESTS, key_id=first.key.id)
    for value in (first.value, second.value, second.value):
        plane.authorize(token, value)
    plane.flush()
    assert {m.version.number: m.total_requests for m in VersionMetrics.objects.select_related("version")} == {
        1: 1,
        2: 2,
    }
    assert KeyMetrics.objects.get().total_requests == 3


def test_denials_are_counted_apart_and_never_as_requests(plane: Plane) -> None:
    group = make_group("payments")
    token, issued = make_gateway("edge").value, make_key(consumer_group=group)
    plane.authorize(token, issued.value, x_keeptrusts_consumer_group="search")
    plane.authorize(token, tokens.generate(TokenKind.GATEWAY_KEY))
    plane.authorize(token, "malformed")
    plane.authorize(token, None)
    plane.authorize(tokens.generate(TokenKind.GATEWAY_TOKEN), issued.value)
    plane.flush()
    nobody = {"version__number": None, "consumer_group__slug": None, "gateway__name": "edge"}
    of_key = {"version__number": 1, "consumer_group__slug": "payments", "gateway__name": "edge"}
    assert sorted(buckets(), key=lambda bucket: bucket["denials"]) == [
        {**of_key, "requests": 0, "denials": 1},
        {**nobody, "requests": 0, "denials": 3},
    ]
    event = UsageEvent.objects.get()
    assert (event.outcome, event.reason, event.key_id) == ("denied", "group_mismatch", issued.key.id)
    assert not KeyMetrics.objects.exists()


def test_of_gateways_that_report_authorize_counts_only_denials(plane: Plane) -> None:
    token, issued = make_gateway(usage_source=UsageSource.REPORT).value, make_key()
    assert plane.authorize(token, issued.value).status == 200
    lifecycle.disable(actor=TESTS, key_id=issued.key.id)
    assert plane.authorize(token, issued.value).status == 401
    plane.flush()
    assert UsageBucket.objects.aggregate(Sum("requests"), Sum("denials")) == {"requests__sum": 0, "denials__sum": 1}
    assert UsageEvent.objects.get().reason == "key_disabled"
    assert not KeyMetrics.objects.exists()


def test_many_at_once_are_counted_exactly(plane: Plane) -> None:
    token, values = make_gateway().value, [make_key().value for _ in range(5)]
    headers = [question(token, values[number % 5]) for number in range(1_000)]

    async def ask_all() -> list[int]:
        answers = await asyncio.gather(*(plane.asking(headers=some) for some in headers))
        return [answer.status for answer in answers]

    statuses = plane.run(ask_all())
    plane.flush()
    assert statuses == [200] * 1_000
    assert list(KeyMetrics.objects.values_list("total_requests", flat=True)) == [200] * 5
    assert UsageBucket.objects.aggregate(total=Sum("requests"))["total"] == 1_000


def test_a_request_counts_in_the_five_minutes_of_its_decision(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    for moment in (NOON - timedelta(microseconds=1), NOON, NOON + timedelta(minutes=4, seconds=59.999999)):
        with time_machine.travel(moment, tick=False):
            plane.authorize(token, issued.value)
    plane.flush()
    sums = UsageBucket.objects.order_by("start").values_list("start", "requests")
    assert list(sums) == [(NOON - timedelta(minutes=5), 1), (NOON, 2)]


def test_path_and_method_of_the_client_are_kept_where_the_gateway_appends_them(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    headers = question(token, issued.value, x_keeptrusts_client_ip="::ffff:203.0.113.9")
    plane.ask("PUT", f"/gateway/v1/authorize/v1/\x00\ud800{issued.value}/" + "x" * 600, headers=headers)
    plane.flush()
    event = UsageEvent.objects.get()
    assert event.path.startswith(f"/v1/?{issued.value[:10]}…/xxx")
    assert (event.method, len(event.path), event.client_ip) == ("PUT", 500, "203.0.113.9")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("search", "search"),
        (None, ""),
        ("x" * 5_000, "x" * 80),
        ("<b>\x01\x1f\xff", "<b>��\xff"),
    ],
)
def test_a_denial_keeps_the_group_that_the_gateway_stated(plane: Plane, said: str | None, kept: str) -> None:
    token = make_gateway(require_group=True).value
    issued = make_key(consumer_group=make_group("payments"))
    stated = [] if said is None else [(b"x-keeptrusts-consumer-group", said.encode("latin-1"))]
    assert plane.ask(headers=[*question(token, issued.value), *stated]).status == 403
    plane.flush()
    assert UsageEvent.objects.get().stated_group == kept


def test_a_value_stated_as_a_group_is_not_kept(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key(consumer_group=make_group("payments"))
    plane.authorize(token, issued.value, x_keeptrusts_consumer_group=issued.value)
    plane.flush()
    assert UsageEvent.objects.get().stated_group == f"{issued.value[:10]}…"


def test_of_a_request_that_passed_no_stated_group_is_kept(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key(consumer_group=make_group("payments"))
    plane.authorize(token, issued.value, x_keeptrusts_consumer_group="payments")
    plane.flush()
    assert UsageEvent.objects.get().stated_group is None


def test_a_stop_writes_what_is_counted(transactional_db: None) -> None:
    token, issued = make_gateway().value, make_key()
    with running_plane() as plane:
        for _ in range(7):
            plane.authorize(token, issued.value)
    assert KeyMetrics.objects.get().total_requests == 7


def test_counts_reach_the_database_by_themselves_within_moments(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    plane.authorize(token, issued.value)
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while not KeyMetrics.objects.exists():
        assert datetime.now(UTC) < deadline
        time.sleep(0.02)


@pytest.mark.django_db
def test_a_batch_that_is_written_again_counts_once() -> None:
    batch, _ = a_batch(requests=3)
    for _ in range(3):
        write(batch)
    assert UsageBucket.objects.get().requests == 3
    assert KeyMetrics.objects.get().total_requests == 3
    assert UsageEvent.objects.count() == 1
    assert UsageFlush.objects.get().pk == batch.id
    write(a_batch(requests=2)[0])
    assert KeyMetrics.objects.count() == 2


@pytest.mark.django_db
def test_sums_are_added_to_what_is_there() -> None:
    gateway, issued, group = make_gateway().gateway.id, make_key(), make_group()
    none, some = BucketKey(0, issued.version.id, None, gateway), BucketKey(0, issued.version.id, group.id, gateway)
    for at in (NOON, NOON - timedelta(hours=1)):
        sums = Sums()
        for bucket in (none, some, some):
            sums.request(bucket, key_id=issued.key.id, at=at, status=503, latency_ms=10, input_tokens=5)
        sums.denial(BucketKey(0, None, None, gateway))
        add(sums)
    assert UsageBucket.objects.count() == 3
    found = UsageBucket.objects.get(consumer_group=group)
    assert (found.requests, found.status_5xx, found.latency_le_10, found.input_tokens) == (4, 4, 4, 20)
    assert UsageBucket.objects.get(version=None).denials == 2
    metrics = KeyMetrics.objects.get()
    assert (metrics.total_requests, metrics.total_reported, metrics.total_errors) == (6, 6, 6)
    # A late count does not turn the clock back.
    assert metrics.last_used_at == VersionMetrics.objects.get().last_used_at == NOON


@pytest.mark.once
@pytest.mark.parametrize(
    ("latency", "field"), [(0, 0), (5, 0), (6, 1), (10, 1), (10_000, 10), (10_001, 11), (2_147_483_647, 11)]
)
def test_a_latency_is_in_the_class_of_the_first_bound_that_it_does_not_pass(latency: int, field: int) -> None:
    sums, bucket = Sums(), BucketKey(0, 1, None, uuid4())
    sums.request(bucket, key_id=uuid4(), at=NOON, latency_ms=latency)
    assert sums.buckets[bucket][-12:].index(1) == field


class Direct:
    """Runs at once what is asked of it, and fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def run[T](self, do: Callable[[], T]) -> T:
        if self.failures and not isinstance(self.failures[0], CommitLost):
            raise self.failures.pop(0)
        done = await asyncio.to_thread(in_thread, do)
        if self.failures:
            raise self.failures.pop(0)
        return done


class CommitLost(OperationalError):
    """It was written, but nobody heard of it."""


def in_thread[T](do: Callable[[], T]) -> T:
    try:
        return do()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failure", [OperationalError("away"), CommitLost("server closed the connection")], ids=repr)
def test_what_could_not_be_written_is_tried_again_and_counts_once(failure: Exception) -> None:
    gateway, issued = make_gateway().gateway.id, make_key()
    public_id = str(issued.key.id).encode()

    async def count() -> None:
        counter = Counter(Direct(failure), event_rate=10)

        def serve() -> None:
            counter.served(
                at=NOON, gateway_id=gateway, public_id=public_id, version_id=issued.version.id, group_id=None
            )

        serve()
        assert not await counter.flush()
        serve()
        assert await counter.flush()
        assert await counter.drain()

    asyncio.run(count())
    assert UsageBucket.objects.get().requests == 2
    assert KeyMetrics.objects.get().total_requests == 2


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_does_not_hold_up_what_comes_after_it() -> None:
    gateway, issued = make_gateway().gateway.id, make_key()
    public_id = str(issued.key.id).encode()

    async def count() -> None:
        counter = Counter(Direct(), event_rate=10)
        counter.served(at=NOON, gateway_id=gateway, public_id=public_id, version_id=issued.version.id, group_id=None)
        bad = NewEvent(gateway, "x", NOON, NOON, Outcome.SERVED, key_id=uuid4())
        counter.keep(bad)
        assert not await counter.flush()
        assert await counter.flush()
        counter.denied(at=NOON, gateway_id=uuid4(), version_id=None, group_id=None)
        assert await counter.flush()

    asyncio.run(count())
    assert KeyMetrics.objects.get().total_requests == 1
    assert not UsageEvent.objects.exists()
    assert UsageBucket.objects.get().requests == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_flush_does_not_wait_for_a_verb_that_is_under_way() -> None:
    """Else the two could wait for each other, by way of a third who edits the group."""
    group = make_group()
    batch, issued = a_batch(requests=1, consumer_group=group)
    with ThreadPoolExecutor(1) as threads, transaction.atomic():
        lifecycle.edit(actor=TESTS, key_id=issued.key.id, changed={"description": "new"})
        edit_group(actor=TESTS, group_id=group.pk, changed={"description": "new"})
        threads.submit(in_thread, partial(write, batch)).result(timeout=20)
    assert UsageEvent.objects.get().consumer_group == group


@pytest.mark.once
def test_events_are_kept_up_to_a_rate_and_counts_beyond_it() -> None:
    with time_machine.travel(NOON):
        allowance = Allowance(3)
        taken = sum(allowance.take() for _ in range(1_000))
    assert 3 <= taken <= 6  # a second may have begun in between


def a_batch(*, requests: int, consumer_group: ConsumerGroup | None = None) -> tuple[Batch, IssuedKey]:
    gateway, issued = make_gateway().gateway.id, make_key(consumer_group=consumer_group)
    batch, group_id = Batch(), issued.key.consumer_group_id
    bucket = BucketKey(bucket_start(NOON), issued.version.id, group_id, gateway)
    for _ in range(requests):
        batch.sums.request(bucket, key_id=issued.key.id, at=NOON)
    event = NewEvent(gateway, "one", NOON, NOON, Outcome.SERVED, key_id=issued.key.id, version_id=issued.version.id)
    batch.events.append(event._replace(consumer_group_id=group_id))
    return batch, issued

"""Requests of a flood are durable at once and in the sums a little later, each once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from django.test import Client

from gateways.registry import IssuedToken
from keys.issuing import IssuedKey
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member
from tests.plane import Plane
from usage import counting
from usage.counting import Batch, write
from usage.models import KeyMetrics, PendingTallies, UsageBucket, UsageFlush, VersionMetrics
from usage.sums import bucket_start
from usage.tallies import Tally, add_up

NOON = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _everything_is_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_AT_ONCE", 0)


def a_flood(gateway: IssuedToken, keys: list[IssuedKey], *, at: datetime, requests: int = 1) -> Batch:
    """Return a batch in which each of the keys has served so many requests."""
    batch = Batch()
    for key in keys:
        whose = (bucket_start(at), key.version.id, key.key.consumer_group_id, gateway.gateway.id)
        batch.served[whose] = Tally(str(key.key.id).encode(), at, requests)
    return batch


@pytest.fixture
def keys(db: None) -> list[IssuedKey]:
    group = make_group()
    return [make_key(), *(make_key(consumer_group=group) for _ in range(2))]


@pytest.mark.django_db
def test_a_flood_is_durable_at_once_and_added_up_later(keys: list[IssuedKey]) -> None:
    gateway = make_gateway()
    for minutes in (0, 4, 6):
        write(a_flood(gateway, keys, at=NOON + timedelta(minutes=minutes), requests=7))
    assert PendingTallies.objects.count() == 3
    assert not UsageBucket.objects.exists()
    assert add_up() == 3
    sums = UsageBucket.objects.order_by("start", "version").values_list(
        "start", "consumer_group", "version", "requests"
    )
    first, second = NOON, NOON + timedelta(minutes=5)
    of = [(key.key.consumer_group_id, key.version.id) for key in keys]
    assert list(sums) == [*((first, *whose, 14) for whose in of), *((second, *whose, 7) for whose in of)]
    assert set(KeyMetrics.objects.values_list("total_requests", "last_used_at")) == {(21, NOON + timedelta(minutes=6))}
    assert set(VersionMetrics.objects.values_list("total_requests", flat=True)) == {21}
    assert add_up() == 0


@pytest.mark.django_db
def test_a_flood_that_is_written_again_counts_once_even_after_it_was_added_up(keys: list[IssuedKey]) -> None:
    batch = a_flood(make_gateway(), keys, at=NOON)
    write(batch)
    write(batch)
    add_up()
    write(batch)
    add_up()
    assert UsageFlush.objects.get().pk == batch.id
    assert UsageBucket.objects.aggregate(total=Sum("requests"))["total"] == 3


@pytest.mark.django_db
def test_a_flood_counts_like_the_same_requests_one_by_one(
    keys: list[IssuedKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway()
    at = NOON + timedelta(microseconds=123_457)
    write(a_flood(gateway, keys, at=at, requests=5))
    add_up()
    put_off = list(UsageBucket.objects.order_by("version").values_list("start", "version", "requests"))
    used = list(VersionMetrics.objects.order_by("version").values_list("version", "last_used_at"))
    monkeypatch.setattr(counting, "MOST_AT_ONCE", 100)
    write(a_flood(gateway, keys, at=at, requests=5))
    assert not PendingTallies.objects.exists()
    doubled = [(start, version, 2 * requests) for start, version, requests in put_off]
    assert list(UsageBucket.objects.order_by("version").values_list("start", "version", "requests")) == doubled
    assert list(VersionMetrics.objects.order_by("version").values_list("version", "last_used_at")) == used


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_who_add_up_at_once_add_everything_once(keys: list[IssuedKey]) -> None:
    gateway = make_gateway()
    for number in range(40):
        write(a_flood(gateway, keys, at=NOON + timedelta(seconds=number)))
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda _: added_up(), range(4)))
    assert sum(rows) + add_up() == 40
    assert UsageBucket.objects.aggregate(total=Sum("requests"))["total"] == 120


def added_up() -> int:
    try:
        return add_up()
    finally:
        connection.close()


def test_who_asks_for_the_figures_of_a_key_gets_them_to_the_second(plane: Plane, client: Client) -> None:
    token, some = make_gateway().value, [make_key() for _ in range(4)]
    for key in some:
        plane.authorize(token, key.value)
    plane.flush()
    access_key = make_access_key(make_member())
    headers = {"Authorization": f"Bearer {access_key.value}"}
    found = client.get(f"/api/v1/gateway-keys/{some[0].key.id}/metrics/", headers=headers).json()
    assert (found["total_requests"], found["figures"]["requests"]) == (1, 1)
    assert not PendingTallies.objects.exists()

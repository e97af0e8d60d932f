"""Figures of a window: latency quantiles, steps in the current zone, models, and what rises against the day before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.utils import timezone

from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.factories import make_gateway, make_group, make_key, make_member
from usage.figures import DAY, WINDOWS, Figures, day_against_before, of_gateway, of_group, of_key, seen_by, usage
from usage.models import KeyMetrics, UsageBucket
from usage.trends import busiest, rising

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _still() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def count(gateway: Gateway, issued: IssuedKey, at: datetime, **sums: Any) -> None:
    UsageBucket.objects.create(
        start=at, gateway=gateway, version=issued.version, consumer_group=issued.key.consumer_group, **sums
    )


def test_a_quantile_is_estimated_within_its_class() -> None:
    # 90 up to 100 ms, 10 up to 250 ms.
    figures = Figures(latencies=(0, 0, 0, 0, 90, 10, 0, 0, 0, 0, 0, 0))
    assert figures.latency(0.9) == 100
    assert figures.p50 == 78
    assert figures.p95 == 100 + 150 // 2


def test_no_latency_is_not_zero_and_beyond_the_histogram_is_its_end() -> None:
    assert Figures(requests=5).p50 is None
    assert Figures(latencies=(0,) * 11 + (3,)).p99 == 10_000


def test_a_window_is_told_by_step_and_by_model() -> None:
    gateway, issued = make_gateway().gateway, make_key()
    count(gateway, issued, NOW - timedelta(hours=3), requests=3, status_2xx=3, model="small", input_tokens=7)
    count(gateway, issued, NOW - timedelta(hours=30), requests=5, status_5xx=5, model="large", latency_le_10=5)
    count(gateway, issued, NOW - timedelta(days=20), requests=100)
    seen = usage(of_key(issued.key.pk), WINDOWS["7d"])
    assert (seen.total.requests, seen.total.errors, seen.total.input_tokens) == (8, 5, 7)
    assert [(model, figures.requests) for model, figures in seen.models] == [("large", 5), ("small", 3)]
    assert sum(point.figures.requests for point in seen.points) == 8
    assert usage(of_key(issued.key.pk), WINDOWS["30d"]).total.requests == 108


def test_a_day_is_a_day_of_the_current_zone() -> None:
    gateway, issued = make_gateway().gateway, make_key()
    # 23:30 UTC of the 20th is the 21st in Berlin.
    count(gateway, issued, datetime(2026, 11, 20, 23, 30, tzinfo=UTC), requests=4)
    with timezone.override(ZoneInfo("Europe/Berlin")):
        points = usage(of_key(issued.key.pk), WINDOWS["30d"]).points
    days = {timezone.localtime(point.start, ZoneInfo("Europe/Berlin")): point.figures.requests for point in points}
    assert days[datetime(2026, 11, 21, tzinfo=ZoneInfo("Europe/Berlin"))] == 4
    assert {day.hour for day in days} == {0}
    assert len(days) == 30


def test_a_day_of_25_hours_is_one_step() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    with time_machine.travel(datetime(2026, 10, 28, 12, tzinfo=UTC), tick=False), timezone.override(berlin):
        starts = [point.start for point in usage(of_key(make_key().key.pk), WINDOWS["30d"]).points]
    gaps = {second.astimezone(UTC) - first.astimezone(UTC) for first, second in pairwise(starts)}
    assert gaps == {DAY, timedelta(hours=25)}


def test_a_group_and_a_gateway_are_summed_over_their_keys() -> None:
    group, gateway, other = make_group(), make_gateway().gateway, make_gateway().gateway
    first, second = make_key(consumer_group=group), make_key()
    count(gateway, first, NOW - timedelta(hours=1), requests=2)
    count(other, first, NOW - timedelta(hours=1), requests=3)
    count(gateway, second, NOW - timedelta(hours=1), requests=40)
    assert usage(of_group(group.pk), WINDOWS["24h"]).total.requests == 5
    assert usage(of_gateway(gateway.pk), WINDOWS["24h"]).total.requests == 42


def test_the_day_is_held_against_the_one_before() -> None:
    gateway, issued = make_gateway().gateway, make_key()
    count(gateway, issued, NOW - timedelta(hours=23), requests=3)
    count(gateway, issued, NOW - timedelta(hours=25), requests=5, status_4xx=1)
    count(gateway, issued, NOW - timedelta(hours=50), requests=100)
    day, before, points = day_against_before(seen_by(make_member("auditor")), at=NOW)
    assert (day.requests, before.requests, before.errors) == (3, 5, 1)
    assert sum(point.figures.requests for point in points) == 3


def metrics(issued: IssuedKey, *, reported: int, errors: int) -> None:
    KeyMetrics.objects.create(key=issued.key, requests_24h=reported, reported_24h=reported, errors_24h=errors)


@pytest.mark.parametrize(
    ("now", "before", "rises"),
    [
        ((100, 20), (100, 2), True),
        ((100, 20), (100, 18), False),
        ((30, 20), (100, 2), False),  # too few to say
        ((100, 20), (10, 0), False),
        ((100, 9), (100, 0), False),
    ],
)
def test_an_error_rate_rises_where_there_are_enough_requests(
    now: tuple[int, int], before: tuple[int, int], *, rises: bool
) -> None:
    issued = make_key("billing")
    metrics(issued, reported=now[0], errors=now[1])
    served = before[0] - before[1]
    count(make_gateway().gateway, issued, NOW - timedelta(hours=30), status_2xx=served, status_5xx=before[1])
    found = rising(make_member("auditor"), 5, at=NOW)
    assert [rise.key.name for rise in found] == (["billing"] if rises else [])


def test_the_busiest_keys_come_first_and_only_those_a_manager_sees() -> None:
    manager = make_member("manager")
    metrics(make_key("a-little"), reported=3, errors=0)
    metrics(make_key("a-lot"), reported=300, errors=0)
    metrics(make_key("idle"), reported=0, errors=0)
    metrics(make_key("hidden", consumer_group=make_group(managers=[make_member("manager")])), reported=9, errors=0)
    assert [row.key.name for row in busiest(manager, 5)] == ["a-lot", "a-little"]
    assert [row.key.name for row in busiest(make_member("admin"), 2)] == ["a-lot", "hidden"]

"""A page of a long list: the same keys, in the same order, as the list has there that is sorted as a whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F, QuerySet

from audit import clock
from keys.key_lists import MANY, REQUESTS, keys_of_page
from keys.models import GatewayKey
from tests.factories import make_group, make_key
from usage.models import KeyMetrics

pytestmark = pytest.mark.django_db

ORDERS: list[Any] = [
    "name",
    "-created_at",
    *(F(column).asc(nulls_last=True) for column in ("consumer_group__name", "expires_at", "metrics__last_used_at")),
    *(F(column).desc(nulls_last=True) for column in ("consumer_group__name", "expires_at", "metrics__last_used_at")),
    REQUESTS.asc(),
    REQUESTS.desc(),
]


@pytest.fixture
def keys() -> QuerySet[GatewayKey]:
    """Make twelve keys: of every two some have a group, an expiry, and figures; some of these were never used."""
    now = clock.now()
    for number in range(12):
        key = make_key(
            f"key-{number:02}",
            consumer_group=make_group() if number % 2 else None,
            expires_at=now + timedelta(days=50 - number) if number % 3 else None,
        ).key
        if number % 4:
            used_at = now - timedelta(hours=number * 7 % 5) if number % 5 else None
            KeyMetrics.objects.create(key=key, last_used_at=used_at, requests_24h=number % 3)
    return GatewayKey.objects.select_related("consumer_group", "metrics")


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_page_is_a_slice_of_the_whole(order: Any, keys: QuerySet[GatewayKey]) -> None:
    keys = keys.order_by(order, "-created_at", "id")
    whole = list(keys)
    for size, count in ((1, MANY + 1), (5, MANY + 1), (12, MANY + 1), (30, MANY + 1), (5, 12)):
        for begin in range(0, 14, size):
            assert keys_of_page(keys, begin, begin + size, count=count) == whole[begin : begin + size]


def test_a_page_comes_with_all_that_the_list_fetches(
    keys: QuerySet[GatewayKey], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        for key in keys_of_page(keys.order_by("name"), 0, 5):
            str(key.consumer_group), getattr(key, "metrics", None)


def test_a_filtered_list_stays_filtered(keys: QuerySet[GatewayKey]) -> None:
    unscoped = keys.filter(consumer_group__isnull=True).order_by(F("metrics__last_used_at").desc(nulls_last=True), "id")
    assert keys_of_page(unscoped, 0, 50, count=MANY + 1) == list(unscoped)

"""A page of a long list of gateway keys: first which, from narrow rows and an index, then these with all they show.

PostgreSQL would join and carry every key's whole row through the sorting, to throw all but a page away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from django.core.paginator import Page, Paginator
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce

from access.console import ConsoleChangeList
from access.pagination import CountedPagination
from keys.models import GatewayKey, idle_for_a_day, never_used

# Columns that not every key has something in, and the condition for those that have nothing: in lists they come last.
ABSENT: Final[dict[str, Callable[[], Q]]] = {
    "consumer_group__name": lambda: Q(consumer_group__isnull=True),
    "expires_at": lambda: Q(expires_at__isnull=True),
    "metrics__last_used_at": never_used,
}
MANY: Final = 10_000
# What a key whose requests were never counted has of them, too, is 0.
REQUESTS: Final = Coalesce("metrics__requests_24h", 0)


def keys_of_page(keys: QuerySet[Any], begin: int, end: int, *, count: int = 0) -> list[Any]:
    """Return what `keys[begin:end]` is, in its order; a key that meanwhile left the list may be missing.

    count: how many keys the list has.
    """
    narrow = keys.select_related(None).prefetch_related(None)
    # A short list is sorted sooner than its keys are found among all in the order of an index.
    ids = _ids(_parts(narrow) if count > MANY else [narrow], begin, end)
    rows = {key.pk: key for key in keys.order_by().filter(pk__in=ids)}
    return [rows[key_id] for key_id in ids if key_id in rows]


def _ids(parts: list[QuerySet[Any]], begin: int, end: int) -> list[Any]:
    """Return the ids from `begin` until before `end` of the lists `parts`, one after the other."""
    ids: list[Any] = []
    skipped = begin
    for part in parts:
        some = list(part.values_list("pk", flat=True)[skipped : skipped + end - begin - len(ids)])
        ids += some
        if len(ids) == end - begin:
            break
        # Only a part that ends before the page begins is counted.
        skipped = max(0, skipped - part.order_by().count()) if skipped and not some else 0
    return ids


def _parts(keys: QuerySet[Any]) -> list[QuerySet[Any]]:
    """Return the lists that `keys` is, one after the other.

    By a column that not every key has something in it is two: only so, an index gives its order.
    """
    first, *others = keys.query.order_by or (None,)
    if not isinstance(first, OrderBy):
        return [keys]
    if first.expression == REQUESTS:
        by_requests = OrderBy(F("metrics__requests_24h"), descending=first.descending)
        busy = keys.filter(metrics__requests_24h__gt=0).order_by(by_requests, *others)
        idle = keys.filter(idle_for_a_day()).order_by(*others)
        return [busy, idle] if first.descending else [idle, busy]
    column: str = getattr(first.expression, "name", "") if isinstance(first.expression, F) else ""
    if column not in ABSENT or not first.nulls_last:
        return [keys]
    by_column = OrderBy(F(column), descending=first.descending)
    given = keys.filter(**{f"{column}__isnull": False}).order_by(by_column, *others)
    return [given, keys.filter(ABSENT[column]()).order_by(*others)]


class KeyChangeList(ConsoleChangeList):
    def page_rows(self) -> list[GatewayKey]:
        begin = (self.page_num - 1) * self.list_per_page if self.multi_page and not self.show_all else 0
        return keys_of_page(self.queryset, begin, begin + self.list_per_page, count=self.result_count)


class KeyPages(CountedPagination):
    """Pages of the API's list."""

    class django_paginator_class(Paginator[Any]):  # as Django REST framework calls it
        def page(self, number: int | str) -> Page[Any]:
            page = super().page(number)
            begin = (page.number - 1) * self.per_page
            keys = cast("QuerySet[Any]", self.object_list)
            page.object_list = keys_of_page(keys, begin, begin + self.per_page, count=self.count)
            return page

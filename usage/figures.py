"""What the sums say, read live from the buckets: figures of a span of time, and a series for a chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Any, Final, cast
from uuid import UUID

from django.db.models import F, Q, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from access.models import Member
from access.rules import Role
from audit import clock
from keys.visibility import reachable_keys
from usage.models import BUCKET_SPAN, HOUR, STATUS_FIELDS, UsageBucket

DAY: Final = timedelta(hours=24)


def _sum(*fields: str) -> Coalesce:
    expression: Combinable = reduce(add, (F(field) for field in fields))
    return Coalesce(Sum(expression), 0)


SUMS: Final = {
    "requests": _sum("requests"),
    "reported": _sum(*STATUS_FIELDS),
    "errors": _sum("status_4xx", "status_5xx"),
    "denials": _sum("denials"),
    "input_tokens": _sum("input_tokens"),
    "output_tokens": _sum("output_tokens"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over a span. reported: requests whose status is known; errors: those of them with status >= 400."""

    requests: int = 0
    reported: int = 0
    errors: int = 0
    denials: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def error_rate(self) -> float | None:
        """Errors among the requests whose status was reported, 0..1; None where none was: "not reported"."""
        return self.errors / self.reported if self.reported else None


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of one step of a series, which begins at `start`."""

    start: datetime
    figures: Figures


def of_key(key_id: UUID) -> Q:
    return Q(version__key=key_id)


def seen_by(member: Member) -> Q:
    """The condition for buckets of what `member` may see; a Manager sees those of their keys."""
    if member.role != Role.MANAGER:
        return Q()
    return reachable_keys(member, "version__key__") & Q(version__isnull=False)


def figures(scope: Q, *, window: timedelta = DAY, at: datetime | None = None) -> Figures:
    """Return the sums of the last `window` before `at` (now), right to within one bucket."""
    since = (at or clock.now()) - window
    return Figures(**UsageBucket.objects.filter(scope, _reaches_into(since)).aggregate(**SUMS))


def requests_by_version(scope: Q, *, window: timedelta, at: datetime | None = None) -> dict[int, int]:
    """Return how many requests each key version in `scope` served in the last `window`, right to within one bucket."""
    since = (at or clock.now()) - window
    rows = UsageBucket.objects.filter(scope, _reaches_into(since), version__isnull=False)
    return dict(rows.values_list("version").annotate(count=_sum("requests")))


def series(
    scope: Q, *, window: timedelta = DAY, step: timedelta = timedelta(hours=1), at: datetime | None = None
) -> list[Point]:
    """Return one point for every step of the last `window`, oldest first, empty ones too.

    step: a multiple of five minutes, of an hour where the window is longer than 7 days (usage/compaction.py); steps
    begin at whole multiples of it, so the last one is still filling.
    """
    at = at or clock.now()
    last = _floor(at, step)
    count = window // step
    starts = [last - step * back for back in range(count - 1, -1, -1)]
    sums: dict[datetime, Figures] = {}
    buckets = UsageBucket.objects.filter(scope, start__gte=starts[0], start__lte=at)
    rows = cast("Iterable[dict[str, Any]]", buckets.values("start").annotate(**SUMS))
    for row in rows:
        start = _floor(row["start"], step)
        so_far = sums.get(start, Figures())
        sums[start] = Figures(**{name: row[name] + getattr(so_far, name) for name in SUMS})
    return [Point(start, sums.get(start, Figures())) for start in starts]


def _reaches_into(since: datetime) -> Q:
    """The condition for buckets that end after `since`, whether they stand for five minutes or for an hour."""
    return Q(start__gt=since - HOUR) & (Q(hourly=True) | Q(start__gt=since - BUCKET_SPAN))


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - datetime(1970, 1, 1, tzinfo=at.tzinfo)) % step

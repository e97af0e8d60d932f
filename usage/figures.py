"""What the sums say, read live from the buckets: figures of a span of time, and a series for a chart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any, Final
from uuid import UUID

from django.db.models import Case, F, Q, Sum, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, TruncDay, TruncHour
from django.utils import timezone

from access.models import Member
from audit import clock
from keys.visibility import reachable_keys, sees_every_key
from usage.models import BUCKET_SPAN, HOUR, LATENCY_BOUNDS, LATENCY_FIELDS, STATUS_FIELDS, UsageBucket

DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time before now that a page offers. words: its length; by: what a step of its chart is called."""

    name: str
    span: timedelta
    step: timedelta
    words: str
    by: str


WINDOWS: Final = {
    window.name: window
    for window in (
        Window("24h", DAY, HOUR, "24 hours", "hour"),
        Window("7d", 7 * DAY, 6 * HOUR, "7 days", "6 hours"),
        Window("30d", 30 * DAY, DAY, "30 days", "day"),
    )
}


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
# The columns behind a Figures, in its order.
_COLUMNS: Final = ("requests", "denials", "input_tokens", "output_tokens", *STATUS_FIELDS, *LATENCY_FIELDS)
_PLAIN: Final = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over a span.

    statuses: the requests whose status is known, by its class, 1xx first; latencies: those whose latency is known, by
    the class of the histogram (LATENCY_BOUNDS).
    """

    requests: int = 0
    denials: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    statuses: tuple[int, ...] = (0,) * len(STATUS_FIELDS)
    latencies: tuple[int, ...] = (0,) * len(LATENCY_FIELDS)

    def __add__(self, other: Figures) -> Figures:
        return _figures_of(list(map(add, _numbers(self), _numbers(other))))

    @property
    def reported(self) -> int:
        """Requests whose status is known."""
        return sum(self.statuses)

    @property
    def errors(self) -> int:
        """Those of the reported with a status of 400 or more."""
        return sum(self.statuses[3:])

    @property
    def error_rate(self) -> float | None:
        """Errors among the requests whose status was reported, 0..1; None where none was: "not reported"."""
        return self.errors / self.reported if self.reported else None

    @property
    def unreported(self) -> int:
        """Requests served of which nobody said how it went."""
        return max(self.requests - self.reported, 0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def latency(self, quantile: float) -> int | None:
        """Return the latency below which this share of the requests stayed, in ms; None where none was reported.

        Estimated within its class of the histogram; the last bound, 10 s, stands for everything above it.
        """
        rank, below = quantile * sum(self.latencies), 0
        if not rank:
            return None
        for bound, lowest, count in zip(LATENCY_BOUNDS, (0, *LATENCY_BOUNDS), self.latencies, strict=False):
            if count and below + count >= rank:
                return round(lowest + (bound - lowest) * (rank - below) / count)
            below += count
        return LATENCY_BOUNDS[-1]

    @property
    def p50(self) -> int | None:
        return self.latency(0.5)

    @property
    def p95(self) -> int | None:
        return self.latency(0.95)

    @property
    def p99(self) -> int | None:
        return self.latency(0.99)


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of one step of a series, which begins at `start`."""

    start: datetime
    figures: Figures


@dataclass(frozen=True, slots=True)
class Usage:
    """A window's figures: all together, step by step, and by model, the busiest first ("" = no model reported)."""

    total: Figures
    points: list[Point]
    models: list[tuple[str, Figures]]


def of_key(key_id: UUID) -> Q:
    return Q(version__key=key_id)


def of_group(group_id: int) -> Q:
    """The condition for buckets of requests with a key that was in this group when they were made."""
    return Q(consumer_group=group_id)


def of_gateway(gateway_id: UUID) -> Q:
    return Q(gateway=gateway_id)


def seen_by(member: Member) -> Q:
    """The condition for buckets of what `member` may see.

    A Manager sees those of keys that were in their groups, or unscoped, when the requests were made: as the figures of
    a group count them, and without a look at the key of every bucket.
    """
    if sees_every_key(member):
        return Q()
    return reachable_keys(member) & Q(version__isnull=False)


def figures(scope: Q, *, window: timedelta = DAY, at: datetime | None = None) -> Figures:
    """Return the sums of the last `window` before `at` (now), right to within one bucket."""
    since = (at or clock.now()) - window
    sums = UsageBucket.objects.filter(scope, _reaches_into(since)).aggregate(**{f"of_{c}": _sum(c) for c in _COLUMNS})
    return _figures_of([sums[f"of_{column}"] for column in _COLUMNS])


def requests_by_version(scope: Q, *, window: timedelta, at: datetime | None = None) -> dict[int, int]:
    """Return how many requests each key version in `scope` served in the last `window`, right to within one bucket."""
    since = (at or clock.now()) - window
    rows = UsageBucket.objects.filter(scope, _reaches_into(since), version__isnull=False)
    return dict(rows.values_list("version").annotate(count=_sum("requests")))


def usage(scope: Q, window: Window, *, at: datetime | None = None) -> Usage:
    """Return what was used in a window before `at` (now), in one query.

    The total is that of `figures`; the points are whole steps in the current zone, where a day is a day, so the last
    one is still filling.
    """
    at = at or clock.now()
    starts = _starts(at, window.span, window.step)
    points = dict.fromkeys(starts, Figures())
    total, models = Figures(), dict[str, Figures]()
    for start, model, of_step in _rows(scope & _reaches_into(at - window.span), window.step):
        total += of_step
        models[model] = models.get(model, Figures()) + of_step
        if (place := bisect_right(starts, start)) > 0:
            points[starts[place - 1]] += of_step
    busiest = sorted(models.items(), key=lambda item: (-item[1].requests, item[0]))
    return Usage(total, [Point(start, points[start]) for start in starts], busiest)


def day_against_before(scope: Q, *, at: datetime) -> tuple[Figures, Figures, list[Point]]:
    """Return the figures of the last 24 hours, those of the 24 hours before, and the last 24 hours by hour.

    In one query, and without latency and tokens: the dashboard sums up all there is.
    """
    fields = ("requests", "denials", *STATUS_FIELDS)
    since = at - DAY - BUCKET_SPAN
    rows = (
        UsageBucket.objects.filter(scope, start__gt=since - DAY)
        .order_by()
        .annotate(
            of_hour=TruncHour("start", tzinfo=UTC), is_recent=Case(When(start__gt=since, then=True), default=False)
        )
        .values_list("of_hour", "is_recent")
        .annotate(**{f"of_{field}": Sum(field) for field in fields})
    )
    starts = _starts(at, DAY, HOUR)
    points = dict.fromkeys(starts, Figures())
    day, before = Figures(), Figures()
    for hour, is_recent, requests, denials, *statuses in rows:
        of_hour = Figures(requests, denials, statuses=tuple(statuses))
        if is_recent:
            day += of_hour
            if hour in points:
                points[hour] += of_hour
        else:
            before += of_hour
    return day, before, [Point(start, points[start]) for start in starts]


def series(scope: Q, *, window: timedelta = DAY, step: timedelta = HOUR, at: datetime | None = None) -> list[Point]:
    """Return one point for every step of the last `window`, oldest first, empty ones too.

    step: a multiple of five minutes, of an hour where the window is longer than 7 days (usage/compaction.py); steps
    begin at whole multiples of it, so the last one is still filling.
    """
    at = at or clock.now()
    starts = _starts(at, window, step)
    points = dict.fromkeys(starts, Figures())
    for start, _, of_step in _rows(scope & Q(start__gte=starts[0], start__lte=at), step):
        points[starts[bisect_right(starts, start) - 1]] += of_step
    return [Point(start, points[start]) for start in starts]


def _rows(condition: Q, step: timedelta) -> Iterator[tuple[datetime, str, Figures]]:
    """Yield the sums by time and model, as coarse in time as the steps allow."""
    buckets = UsageBucket.objects.filter(condition).order_by()
    if step >= DAY:
        time: Any = TruncDay("start", tzinfo=timezone.get_current_timezone())
    else:
        time = TruncHour("start", tzinfo=UTC) if step >= HOUR else F("start")
    sums = {f"of_{column}": Sum(column) for column in _COLUMNS}
    # Named apart from the columns, or Django would take the sums for them.
    rows = buckets.annotate(of_time=time).values_list("of_time", "model").annotate(**sums)
    for start, model, *numbers in rows:
        yield start, model, _figures_of(numbers)


def _starts(at: datetime, window: timedelta, step: timedelta) -> list[datetime]:
    """Return when the steps begin, oldest first: those that divide a day at the current zone's midnight and after."""
    backwards = range(window // step - 1, -1, -1)
    if step <= HOUR or DAY % step:
        last = _floor(at, step)
        return [last - step * back for back in backwards]
    zone = timezone.get_current_timezone()
    # On the clock on the wall, so that a day of 23 or 25 hours is one day.
    wall = at.astimezone(zone).replace(tzinfo=None)
    last = wall - (wall - wall.replace(hour=0, minute=0, second=0, microsecond=0)) % step
    return [(last - step * back).replace(tzinfo=zone) for back in backwards]


def _figures_of(numbers: list[int]) -> Figures:
    """Return the figures whose sums are these, in the order of _COLUMNS."""
    statuses = _PLAIN + len(STATUS_FIELDS)
    requests, denials, input_tokens, output_tokens = numbers[:_PLAIN]
    of_statuses, of_latencies = tuple(numbers[_PLAIN:statuses]), tuple(numbers[statuses:])
    return Figures(requests, denials, input_tokens, output_tokens, of_statuses, of_latencies)


def _numbers(figures: Figures) -> tuple[int, ...]:
    plain = (figures.requests, figures.denials, figures.input_tokens, figures.output_tokens)
    return (*plain, *figures.statuses, *figures.latencies)


def _reaches_into(since: datetime) -> Q:
    """The condition for buckets that end after `since`, whether they stand for five minutes or for an hour."""
    return Q(start__gt=since - HOUR) & (Q(hourly=True) | Q(start__gt=since - BUCKET_SPAN))


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - datetime(1970, 1, 1, tzinfo=at.tzinfo)) % step

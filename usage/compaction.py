"""Buckets of five minutes become buckets of an hour when they are seven days old, and these stay.

The hour's bucket has its start and is marked as `hourly`. What is reported late is counted in its own five minutes as
ever, beside the hour's bucket or, in the first five minutes, in it; the next run merges that, too. So the sums are
exact at every moment.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import add
from typing import Any, Final

from django.db import transaction

from audit import clock
from usage.models import BUCKET_SPAN, HOUR, UsageBucket
from usage.sums import BUCKET_COLUMNS, SUM_FIELDS, BucketKey, add_hourly
from usage.tending import is_only_tender

# A window of seven days, right to within one bucket, still finds buckets of five minutes.
KEPT_FINE: Final = timedelta(days=7) + BUCKET_SPAN
# Buckets in one transaction.
BATCH: Final = 1_000

NOTHING: Final = (0,) * len(SUM_FIELDS)
# Of a row: the primary key, which bucket it is, and then what it holds.
FIRST_FIGURE: Final = 1 + len(BUCKET_COLUMNS)


def compact() -> int:
    """Merge the buckets of every hour that is old enough; returns how many it merged or marked."""
    before, merged, since = _hour_of(clock.now() - KEPT_FINE), 0, None
    while (hour := _next_hour(since, before)) is not None:
        while count := _merge_some(hour):
            merged += count
        # What ingest has in its hands right now is left to the next run.
        since = hour + HOUR
    return merged


def _next_hour(since: datetime | None, before: datetime) -> datetime | None:
    """Return the first hour with buckets that are not merged yet."""
    fine = UsageBucket.objects.filter(hourly=False, start__lt=before).order_by("start")
    if since is not None:
        fine = fine.filter(start__gte=since)
    start = fine.values_list("start", flat=True).first()
    return None if start is None else _hour_of(start)


@transaction.atomic
def _merge_some(hour: datetime) -> int:
    """Merge some of the hour's buckets; returns how many.

    First the hour's own buckets are locked, or made, in the order in which every writer goes through them; then the
    others, none of which is waited for. So nobody waits in a circle.
    """
    if not is_only_tender():
        return 0
    fine = UsageBucket.objects.filter(hourly=False, start__gte=hour, start__lt=hour + HOUR).order_by("start")
    found = {row[0]: row for row in fine.values_list("pk", *BUCKET_COLUMNS)[:BATCH]}
    add_hourly({_in_hour(hour, row): NOTHING for row in found.values()})
    free = fine.filter(pk__in=found).select_for_update(skip_locked=True)
    sums: dict[BucketKey, list[int]] = {}
    merged = []
    for row in free.values_list("pk", *BUCKET_COLUMNS, *SUM_FIELDS):
        merged.append(row[0])
        so_far = sums.setdefault(_in_hour(hour, row), list(NOTHING))
        so_far[:] = map(add, so_far, row[FIRST_FIGURE:])
    add_hourly(sums)
    UsageBucket.objects.filter(pk__in=merged).delete()
    # The hour's own are marked by now, and no longer among the others.
    return len(merged) + len([row for row in found.values() if row[1] == hour])


def _in_hour(hour: datetime, row: tuple[Any, ...]) -> BucketKey:
    """The bucket into which a row, with its columns after the primary key, is merged."""
    return BucketKey(int(hour.timestamp()), *row[2:FIRST_FIGURE])


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)

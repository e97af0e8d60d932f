"""The figures of the last 24 hours that lists of keys show, summed up anew from the buckets.

A run looks only at keys that were counted since the last one (`stale`, set with every count) and at keys whose oldest
bucket has slid out of the window. So it costs as much as there is traffic, however many keys and however long the
history; two runs at once do no harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from audit import clock
from keys.models import KeyVersion
from usage.models import BUCKET_SPAN, STATUS_FIELDS, KeyMetrics, UsageBucket, UsageFlush
from usage.raw import to_database

WINDOW: Final = timedelta(hours=24)
# A flush whose commit was lost is tried again within moments; a day is more than enough to know it by.
FLUSH_KEPT: Final = timedelta(days=1)
# Keys in one transaction: flushes wait for no more than these.
BATCH: Final = 500

_METRICS: Final = KeyMetrics._meta.db_table
_FIGURES: Final = {
    "requests_24h": "coalesce(sum(b.requests), 0)",
    "reported_24h": f"coalesce(sum({' + '.join(f'b.{name}' for name in STATUS_FIELDS)}), 0)",
    "errors_24h": "coalesce(sum(b.status_4xx + b.status_5xx), 0)",
    "oldest_24h": "min(b.start)",
}
# Of every version that a key ever had, 0 where there was no traffic: so what has slid out is zeroed, too.
_ROLL_UP: Final = f"""
UPDATE {_METRICS} SET stale = false, {", ".join(f"{name} = fresh.{name}" for name in _FIGURES)}
FROM (
    SELECT v.key_id, {", ".join(f"{sums} AS {name}" for name, sums in _FIGURES.items())}
    FROM {KeyVersion._meta.db_table} v
    LEFT JOIN {UsageBucket._meta.db_table} b ON b.version_id = v.id AND b.start > %s AND b.requests > 0
    WHERE v.key_id IN ({{keys}})
    GROUP BY v.key_id
) AS fresh
WHERE {_METRICS}.key_id = fresh.key_id
"""  # noqa: S608  # names of ours alone


def roll_up() -> int:
    """Bring the 24 h figures of every key that is due up to date; returns how many keys it looked at.

    The window is the same as that of `usage.figures`.
    """
    since, looked_at, after = clock.now() - WINDOW - BUCKET_SPAN, 0, UUID(int=0)
    while keys := _roll_up_some(since, after):
        looked_at, after = looked_at + len(keys), keys[-1]
    return looked_at


def forget_flushes() -> int:
    """Delete the ids of flushes that nobody will try again; returns how many."""
    deleted, _ = UsageFlush.objects.filter(at__lt=clock.now() - FLUSH_KEPT).delete()
    return deleted


@transaction.atomic
def _roll_up_some(since: datetime, after: UUID) -> list[UUID]:
    """Bring the next keys' figures up to date, by their ids after `after`, and return them."""
    due = KeyMetrics.objects.filter(Q(stale=True) | Q(oldest_24h__lte=since), pk__gt=after).order_by("pk")
    # Locked before it is summed: whoever counts meanwhile waits, and makes the key stale again. In the order in which
    # counts lock them, too.
    keys = list(due.select_for_update(no_key=True).values_list("pk", flat=True)[:BATCH])
    if keys:
        sql = _ROLL_UP.format(keys=", ".join(["%s"] * len(keys)))
        with connection.cursor() as cursor:
            cursor.execute(sql, [to_database(since), *(to_database(key) for key in keys)])
    return keys

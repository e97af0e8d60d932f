"""The figures of the last 24 hours that lists of keys show, summed up anew from the buckets.

A run costs as much as there was traffic in these 24 hours, however long the history; two runs at once do no harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import batched
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q

from audit import clock
from keys.models import KeyVersion
from usage.models import BUCKET_SPAN, STATUS_FIELDS, KeyMetrics, UsageBucket, UsageFlush
from usage.raw import to_database

WINDOW: Final = timedelta(hours=24)
# A flush whose commit was lost is tried again within moments; a day is more than enough to know it by.
FLUSH_KEPT: Final = timedelta(days=1)
# Keys in one statement, which is a transaction of its own: flushes wait for no more than these.
BATCH: Final = 500

_METRICS: Final = KeyMetrics._meta.db_table
_FIGURES: Final = {
    "requests_24h": "b.requests",
    "reported_24h": " + ".join(f"b.{name}" for name in STATUS_FIELDS),
    "errors_24h": "b.status_4xx + b.status_5xx",
}
# The sums of every version that a key ever had, 0 where there was no traffic: so what has slid out is zeroed, too.
_ROLL_UP: Final = f"""
INSERT INTO {_METRICS} (key_id, total_requests, total_reported, total_errors, {", ".join(_FIGURES)})
SELECT v.key_id, 0, 0, 0, {", ".join(f"coalesce(sum({sums}), 0)" for sums in _FIGURES.values())}
FROM {KeyVersion._meta.db_table} v
LEFT JOIN {UsageBucket._meta.db_table} b ON b.version_id = v.id AND b.start > %s
WHERE v.key_id IN ({{keys}})
GROUP BY v.key_id
ORDER BY v.key_id
ON CONFLICT (key_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _FIGURES)}
WHERE {" OR ".join(f"{_METRICS}.{name} <> excluded.{name}" for name in _FIGURES)}
"""  # noqa: S608  # names of ours alone


def roll_up() -> int:
    """Bring the 24 h figures of every key with traffic in these hours, or with figures, up to date.

    Returns how many keys' figures changed. The window is the same as that of `usage.figures`.
    """
    since = clock.now() - WINDOW - BUCKET_SPAN
    keys = sorted(_keys_with_traffic(since) | _keys_with_figures())
    return sum(_roll_up(some, since) for some in batched(keys, BATCH))


def forget_flushes() -> int:
    """Delete the ids of flushes that nobody will try again; returns how many."""
    deleted, _ = UsageFlush.objects.filter(at__lt=clock.now() - FLUSH_KEPT).delete()
    return deleted


def _keys_with_traffic(since: datetime) -> set[UUID]:
    buckets = UsageBucket.objects.filter(start__gt=since, requests__gt=0)
    return set(buckets.order_by().values_list("version__key_id", flat=True).distinct())


def _keys_with_figures() -> set[UUID]:
    with_figures = Q(requests_24h__gt=0)  # the index of the busiest; the other figures are parts of this one
    return set(KeyMetrics.objects.filter(with_figures).values_list("pk", flat=True))


def _roll_up(keys: tuple[UUID, ...], since: datetime) -> int:
    sql = _ROLL_UP.format(keys=", ".join(["%s"] * len(keys)))
    with connection.cursor() as cursor:
        cursor.execute(sql, [to_database(since), *(to_database(key) for key in keys)])
        changed: int = cursor.rowcount
    return max(changed, 0)

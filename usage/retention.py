"""Usage events are kept for as long as the setting says, and always longer than they are accepted late."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction

from audit import clock
from usage import partitions
from usage.models import UsageEvent
from usage.raw import to_database
from usage.tending import is_only_tender, keep_since

# Rows in one transaction, and transactions in one run: the next run goes on.
BATCH: Final = 1_000
MOST_BATCHES: Final = 200


def forget_events() -> int:
    """Delete the events that are older than the retention; returns how many it deleted one by one.

    On PostgreSQL whole days are dropped, and only what stands in no day's partition is deleted row by row.
    """
    retention: timedelta = settings.KEEPTRUSTS_USAGE_RETENTION
    before, table, forgotten = clock.now() - retention, UsageEvent._meta.db_table, 0
    if connection.vendor == "postgresql":
        partitions.drop_days(before.date())
        table = partitions.DEFAULT
    for _ in range(MOST_BATCHES):
        deleted = _forget_some(table, before)
        forgotten += deleted
        if deleted < BATCH:
            break
    return forgotten


@transaction.atomic
def _forget_some(table: str, before: datetime) -> int:
    if not is_only_tender():
        return 0
    old = f"SELECT id FROM {table} WHERE occurred_at < %s ORDER BY occurred_at LIMIT {BATCH}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({old})", [to_database(before)])  # noqa: S608
        deleted: int = cursor.rowcount
    if deleted:
        keep_since(before)
    return deleted

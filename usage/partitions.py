"""The daily partitions of usage events on PostgreSQL: made ahead, dropped as a whole. On SQLite there are none.

An event whose day has no partition goes into the default one, and moves when the day gets its own. So jobs that stand
still cost tidiness and never an event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Final

from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from usage.models import UsageEvent
from usage.tending import is_only_tender, keep_since

logger = logging.getLogger(__name__)

DAY: Final = timedelta(days=1)
# Events are accepted 30 days back and 5 minutes ahead (usage/reports.py); further ahead is for jobs that stand still.
DAYS_BACK: Final = 30
DAYS_AHEAD: Final = 7
# How long a change of the partitions waits for those who use them, and these for it. The next run tries again.
LOCK_TIMEOUT: Final = "500ms"

EVENTS: Final = UsageEvent._meta.db_table
DEFAULT: Final = f"{EVENTS}_default"


def days() -> list[date]:
    """Return the days (UTC) that have a partition of their own, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [EVENTS])
        names = [name.rpartition("_")[2] for (name,) in cursor.fetchall()]
    return sorted(datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC).date() for name in names if name.isdigit())


def make_days(today: date) -> int:
    """Make what lacks of the partitions in which events may fall around `today`; returns how many it made.

    Those to come are made first: what has to move out of the default partition keeps ingest of its days waiting.
    """
    if connection.vendor != "postgresql":
        return 0
    wanted = [today + DAY * number for number in range(DAYS_AHEAD, -DAYS_BACK - 1, -1)]
    there = set(days())
    return sum(_unless_in_use(f"make {_name(day)}", partial(_make, day)) for day in wanted if day not in there)


def drop_days(before: date) -> int:
    """Drop the partitions of the days before this one; returns how many it dropped."""
    old = [day for day in days() if day < before]
    return sum(_unless_in_use(f"drop {_name(day)}", partial(_drop, day)) for day in old)


def _unless_in_use(what: str, change: Callable[[], bool]) -> bool:
    """Make one change in a transaction of its own; False where somebody else tends, or keeps the tables too long."""
    try:
        with transaction.atomic():
            if not is_only_tender():
                return False
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            return change()
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        logger.info("Could not %s while the events are in use; the next run tries again.", what)
        return False
    return True


def _make(day: date) -> bool:
    """Make the day's partition, with the events of the day that the default one has taken.

    A table is attached: that lets ingest go on, where PARTITION OF would lock the whole of the events.
    """
    if day in days():  # somebody else was faster
        return False
    name, (start, end) = _name(day), _bounds(day)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (LIKE {EVENTS} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        cursor.execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
        moved = f"DELETE FROM {DEFAULT} WHERE occurred_at >= %s AND occurred_at < %s RETURNING *"  # noqa: S608
        cursor.execute(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved", [start, end])  # noqa: S608
        cursor.execute(f"ALTER TABLE {EVENTS} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")
    return True


def _drop(day: date) -> bool:
    if day not in days():
        return False
    keep_since(_bounds(day)[1])
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {_name(day)}")
    return True


def _name(day: date) -> str:
    return f"{EVENTS}_{day:%Y%m%d}"


def _bounds(day: date) -> tuple[datetime, datetime]:
    start = datetime.combine(day, time(), UTC)
    return start, start + DAY

"""One clock for every decision: the primary database's.

A host whose own clock is wrong decides like the others. On SQLite the database's clock is the host's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache

from django.db import DatabaseError, InterfaceError, connection, transaction

# How long one reading is trusted; between readings time runs on the host's clock that never stands still.
REREAD_AFTER_SECONDS = 10.0
# A reading that took longer than this is taken again, so often at most.
GOOD_READING_SECONDS = 0.02
READ_AT_MOST = 3
# Linux' CLOCK_MONOTONIC does not count while the machine is suspended; elsewhere there is only that one.
_NEVER_STANDS_STILL = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# When it was read, and the database's time then, in seconds since 1970.
_reading: tuple[float, float] | None = None
_standing_at: ContextVar[datetime | None] = ContextVar("standing_at", default=None)


def now() -> datetime:
    """Return the current time by the database's clock, aware, in UTC.

    Errors: none. Where the database cannot be asked, the last reading goes on; before the first reading, the
    host's clock answers (nothing can be decided without the database anyway).
    """
    if (moment := _standing_at.get()) is not None:
        return moment
    if _is_host_clock():
        return datetime.now(UTC)
    return _from_database()


@contextmanager
def standing_at(moment: datetime) -> Iterator[None]:
    """Let the clock stand at `moment` for the caller's own thread: how the demo data gets a past."""
    token = _standing_at.set(moment)
    try:
        yield
    finally:
        _standing_at.reset(token)


def elapsed() -> float:
    """Return seconds on a clock that only ever goes on, through a suspend of the machine as well."""
    return time.clock_gettime(_NEVER_STANDS_STILL)


def refresh() -> None:
    """Read the database's time anew, unless that was done within half of REREAD_AFTER_SECONDS.

    Who does so every few seconds keeps `now` from asking the database itself, as an event loop must not.
    Errors: DatabaseError, InterfaceError.
    """
    global _reading
    if not _is_host_clock() and (_reading is None or elapsed() - _reading[0] > REREAD_AFTER_SECONDS / 2):
        _reading = _read()


@cache
def _is_host_clock() -> bool:
    """Say whether the database is SQLite; to ask the connection each time takes longer than all else."""
    return connection.vendor == "sqlite"


def _from_database() -> datetime:
    global _reading
    reading = _reading
    if (reading is None or elapsed() - reading[0] > REREAD_AFTER_SECONDS) and not _on_event_loop():
        with suppress(DatabaseError, InterfaceError, transaction.TransactionManagementError):
            reading = _reading = _read()
    if reading is None:
        return datetime.now(UTC)
    read_at, database_time = reading
    # Every decision asks: a sum of datetime and timedelta takes four times as long.
    return datetime.fromtimestamp(database_time + elapsed() - read_at, UTC)


def _on_event_loop() -> bool:
    """Say whether to ask the database would keep an event loop waiting; there the last reading goes on."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _read() -> tuple[float, float]:
    """Return the host's and the database's time of one moment, right to within half of how long it took to ask."""
    for _ in range(READ_AT_MOST):
        # A savepoint, so that a failure here never spoils the transaction of whoever asked for the time.
        with transaction.atomic(), connection.cursor() as cursor:
            asked = elapsed()
            cursor.execute("SELECT clock_timestamp()")
            (database_time,) = cursor.fetchone()
            answered = elapsed()
        if answered - asked < GOOD_READING_SECONDS:
            break
    return (asked + answered) / 2, database_time.timestamp()

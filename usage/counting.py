"""What authorize counts: exactly, in memory, and written several times a second (design §8).

A `Counter` lives on one event loop. What it holds is written as one batch in one transaction; the batch carries an id
that is written with it, so that one whose commit was lost on the way can be tried again and still counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, connection, transaction

from audit import clock
from usage.events import NewEvent, insert_new
from usage.models import BUCKET_SPAN, UsageFlush
from usage.raw import to_database
from usage.sums import BucketKey, Sums, add, bucket_start
from usage.tallies import Tally, Whose, put_off
from usage.threads import drop_broken_connection

logger = logging.getLogger(__name__)

# Seconds between two flushes, and how long a stop waits for the last one.
FLUSH_EVERY: Final = 0.15
DRAIN_WITHIN: Final = 10.0
# Versions whose requests are added up by the flush itself; of more, the job does it (usage/tallies.py).
MOST_AT_ONCE: Final = 100
# Seconds' worth of events that are kept while the database is away; sums are kept without end.
EVENTS_KEPT_SECONDS: Final = 10


class Threads(Protocol):
    async def run[T](self, do: Callable[[], T]) -> T: ...


@dataclass(slots=True)
class Batch:
    """What is written at once, or not at all."""

    id: UUID = field(default_factory=uuid.uuid4)
    served: dict[Whose, Tally] = field(default_factory=dict)
    sums: Sums = field(default_factory=Sums)
    events: list[NewEvent] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.served or self.sums)

    @property
    def is_flood(self) -> bool:
        """Whether it takes too long to add all of it up at once."""
        return len(self.served) > MOST_AT_ONCE

    def sum_up(self) -> Sums:
        """Return all of it as sums; nothing is left in `served`."""
        while self.served:
            (start, version_id, group_id, gateway_id), tally = self.served.popitem()
            bucket = BucketKey(start, version_id, group_id, gateway_id)
            key_id = UUID(tally.public_id.decode())
            self.sums.request(bucket, key_id=key_id, at=tally.last_used_at, count=tally.requests)
        return self.sums


class Counter:
    """Counts decisions in memory; `flush` writes them, `start` does so until `drain`.

    event_rate: events kept a second, of served and of denied requests each.
    """

    def __init__(self, threads: Threads, *, event_rate: int) -> None:
        self._threads = threads
        self._served_events = Allowance(event_rate)
        self._denied_events = Allowance(event_rate)
        self._most_events = 2 * event_rate * EVENTS_KEPT_SECONDS
        self._counted = Batch()
        # The bucket that is being counted into.
        self._start = 0
        self._from = self._until = datetime.min.replace(tzinfo=UTC)
        self._unwritten: Batch | None = None
        self._failing = False
        self._flushing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def served(
        self, *, at: datetime, gateway_id: UUID, public_id: bytes, version_id: int, group_id: int | None
    ) -> None:
        """Count one request of this version, let through at `at`. public_id: the id of its key, as text."""
        if not self._from <= at < self._until:
            self._enter_bucket(at)
        whose = (self._start, version_id, group_id, gateway_id)
        tally = self._counted.served.get(whose)
        if tally is None:
            tally = self._counted.served[whose] = Tally(public_id, at)
        tally.requests += 1
        tally.last_used_at = at

    def denied(self, *, at: datetime, gateway_id: UUID, version_id: int | None, group_id: int | None) -> None:
        """Count one denial; version_id: None = of a value that is no key's."""
        self._counted.sums.denial(BucketKey(bucket_start(at), version_id, group_id, gateway_id))

    def used(self, *, at: datetime, key_id: UUID, version_id: int) -> None:
        """Keep that this version was in use at `at`, without counting a request."""
        self._counted.sums.use(version_id, key_id).used(at)

    def keeps_event(self, *, denied: bool) -> bool:
        """Say whether one more event may be kept now, and take it as kept."""
        if len(self._counted.events) >= self._most_events:
            return False
        return (self._denied_events if denied else self._served_events).take()

    def keep(self, event: NewEvent) -> None:
        """Keep an event beside the sums; `keeps_event` has allowed it."""
        self._counted.events.append(event)

    def start(self) -> None:
        """Flush from now on, until `drain`."""
        self._loop = asyncio.get_running_loop().create_task(self._flush_forever(), name="flush of usage counts")

    async def drain(self) -> bool:
        """Stop flushing when everything is written; False where the database did not take it in time."""
        self._stop.set()
        if self._loop is not None:
            await self._loop
        deadline = time.monotonic() + DRAIN_WITHIN
        while not await self.flush():
            if time.monotonic() > deadline:
                logger.error("Counts of usage are lost: the database did not take them before the end.")
                return False
            await asyncio.sleep(FLUSH_EVERY)
        return True

    async def flush(self) -> bool:
        """Write what has been counted; True when nothing that was counted before is left unwritten."""
        async with self._flushing:
            if self._unwritten and not await self._written(self._unwritten):
                return False
            self._unwritten, self._counted = self._counted, Batch()
            return not self._unwritten or await self._written(self._unwritten)

    def _enter_bucket(self, at: datetime) -> None:
        self._start = bucket_start(at)
        self._from = datetime.fromtimestamp(self._start, UTC)
        self._until = self._from + BUCKET_SPAN

    async def _flush_forever(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), FLUSH_EVERY)
            await self.flush()

    async def _written(self, batch: Batch) -> bool:
        """Try to write the batch; on success nothing is unwritten any more."""
        try:
            await self._threads.run(partial(write, batch))
        except (DataError, IntegrityError, ValueError, TypeError):
            # The database is there and refuses this batch: it must not hold up all that comes after it.
            if batch.events:
                logger.exception("Events of usage were refused and are dropped; the counts are tried again.")
                batch.events = []
                return False
            logger.exception("Counts of usage were refused and are lost: %s buckets.", len(batch.sum_up().buckets))
        except Exception:
            if not self._failing:
                logger.exception("Counts of usage cannot be written; they are kept and tried again.")
            self._failing = True
            batch.events = batch.events[: self._most_events]
            return False
        if self._failing:
            logger.info("Counts of usage are written again.")
        self._failing, self._unwritten = False, None
        return True


class Allowance:
    """Allows so many in every second, and the rest of them not."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._until = 0.0
        self._left = 0

    def take(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._until, self._left = now + 1, self._rate
        self._left -= 1
        return self._left >= 0


def write(batch: Batch) -> None:
    """Add the batch to what the database holds, unless it has been added before.

    Errors: DatabaseError; then it is not known to be added, and may be tried again.
    """
    try:
        with transaction.atomic():
            if _is_first_time(batch.id):
                insert_new(batch.events)
                if batch.is_flood:
                    put_off(batch.served)
                add(batch.sums if batch.is_flood else batch.sum_up())
    except DatabaseError:
        drop_broken_connection()
        raise


def _is_first_time(flush_id: UUID) -> bool:
    """Write the flush's id. A transaction with the same id that is still under way is waited for."""
    sql = f"INSERT INTO {UsageFlush._meta.db_table} (id, at) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [to_database(flush_id), to_database(clock.now())])
        written: int = cursor.rowcount
    return written == 1

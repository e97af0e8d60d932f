"""The lease under which a process may decide by what it holds (design §3.4): granted by the primary database, short.

No lease, no memory: every decision asks the database then. The one dial is its length (KEEPTRUSTS_LEASE_SECONDS):
longer rides out a longer outage of the database, and lets a revoke wait longer for a process that cannot be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import Final
from uuid import uuid4

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from audit import clock
from gateways import processes
from gateways.announcements import Listener
from gateways.memory import Memory
from gateways.processes import Applied
from usage.threads import DatabaseThreads, surviving_restart

logger = logging.getLogger(__name__)

# Seconds between renewals, at most: without Redis this is how long a process does not know of a change.
RENEW_EVERY: Final = 0.25
# Renewals that fit into a lease, at least: one that is late or lost must not end it.
RENEWALS_A_LEASE: Final = 4


class Lease:
    """A process's right to use `memory`, kept up by `start` until `close`."""

    def __init__(self, memory: Memory, *, seconds: float) -> None:
        self._memory = memory
        self._seconds = seconds
        self._process_id = uuid4()
        self._threads = DatabaseThreads(1, "lease")
        self._until = 0.0
        self._applied: Applied | None = None
        self._failing = False
        self._renewing: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._listening: asyncio.Task[None] | None = None

    def holds(self) -> bool:
        """Say whether what is in the memory may be used now."""
        return clock.elapsed() < self._until

    def start(self) -> None:
        """Keep the lease renewed, and listen for changes where there is Redis."""
        loop = asyncio.get_running_loop()
        self._renewing = loop.create_task(self._renew_forever(), name="lease")
        if settings.REDIS_URL:
            self._listener = Listener(self._process_id, self._memory.apply)
            self._listening = loop.create_task(self._listener.listen(), name="listener")

    async def close(self) -> None:
        """Use nothing any more and say so, so that nobody waits for this process."""
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewing
        # Only now, when nobody extends it any more; and before the registry forgets it.
        self._until = 0.0
        if self._listener is not None and self._listening is not None:
            self._listener.stop()
            await self._listening
        with contextlib.suppress(DatabaseError, InterfaceError):
            await self._threads.run(partial(processes.leave, self._process_id))
        await asyncio.to_thread(self._threads.close)

    async def _renew_forever(self) -> None:
        pause = min(RENEW_EVERY, self._seconds / RENEWALS_A_LEASE)
        while True:
            try:
                await self._renew()
            except Exception as error:
                # Whatever it is, it is no lease.
                if not self._failing:
                    logger.warning("No lease (%s): every decision asks the database.", type(error).__name__)
                self._failing = True
            else:
                if self._failing:
                    logger.info("There is a lease again.")
                self._failing = False
            await asyncio.sleep(pause)

    async def _renew(self) -> None:
        if self._applied is None:
            self._applied = await self._start_anew()
        renew = partial(processes.renew, self._process_id, applied=self._applied, lease=self._seconds)
        renewal = await self._threads.run(partial(surviving_restart, renew))
        if renewal is None:
            self._until, self._applied = 0.0, None
            return
        # Once more also what was announced: nothing that Redis says makes this process leave out a row.
        for fact in renewal.facts:
            self._memory.apply(fact)
        self._applied = renewal.applied
        self._until = renewal.until
        if renewal.facts:
            note = partial(processes.note_applied, self._process_id, applied=renewal.applied)
            await self._threads.run(partial(surviving_restart, note))

    async def _start_anew(self) -> Applied:
        applied = await self._threads.run(partial(surviving_restart, partial(processes.register, self._process_id)))
        # Also of what was asked for before: it may be older than what need not be looked behind.
        self._memory.clear()
        return applied

"""What the data plane runs on: its threads to the database, and its counter. One for each event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection

from audit import clock
from gateways.decision import Decision, KnownGateway, Question, Reason, decide
from gateways.lease import Lease
from gateways.lookup import Found, look_up
from gateways.memory import Memory
from gateways.telemetry import TELEMETRY
from usage.counting import Allowance, Counter
from usage.ingest import Receipt, ingest
from usage.reports import read_body
from usage.threads import DatabaseThreads, surviving_restart

logger = logging.getLogger(__name__)

LOOKUP_THREADS: Final = 4
INGEST_THREADS: Final = 2
# Seconds. A gateway that waits longer has given up, and what waits behind it would come too late as well.
DECIDE_WITHIN: Final = 3.0

# What means that the database cannot be asked now: a thread that gets no answer in time, too.
UNAVAILABLE: Final = (DatabaseError, TimeoutError)


class Engine:
    """Decides, counts and takes reports. Made on the event loop that uses it; `close` it there."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._lookups = DatabaseThreads(LOOKUP_THREADS, "lookup")
        # Its own thread: counts must not wait for a large report, nor a decision for either.
        self._flushes = DatabaseThreads(1, "flush")
        self._ingests = DatabaseThreads(INGEST_THREADS, "ingest")
        self._complaints = Allowance(1)
        self._memory = Memory(settings.KEEPTRUSTS_CACHED_KEYS)
        self._lease: Lease | None = None
        if settings.KEEPTRUSTS_LEASE_SECONDS and connection.vendor == "postgresql":
            self._lease = Lease(self._memory, seconds=settings.KEEPTRUSTS_LEASE_SECONDS)
            self._lease.start()
            TELEMETRY.lease, TELEMETRY.held = self._lease.holds, self._memory.__len__
        self.counter = Counter(self._flushes, event_rate=settings.KEEPTRUSTS_EVENT_RATE)
        self.counter.start()

    def decide_now(self, question: Question) -> Decision | None:
        """Return the decision by what is held in memory, while that may be used; None where it takes the database."""
        if self._lease is None or not self._lease.holds():
            return None
        found = self._memory.recall(question)
        return decide(question, found.gateway, found.version, clock.now()) if found is not None else None

    async def decide(self, question: Question) -> Decision:
        """Return the decision by what the database knows now, if it takes the database. Errors: UNAVAILABLE."""
        return self.decide_now(question) or await self.ask_database(question)

    async def ask_database(self, question: Question) -> Decision:
        """Return the decision by what the database knows now, and hold that. Errors: UNAVAILABLE."""
        generation = self._memory.generation
        async with asyncio.timeout(DECIDE_WITHIN):
            found, decision = await self._lookups.run(partial(_decide, question))
        if self._lease is not None:
            self._memory.learn(generation, question, found)
        return decision

    async def known_gateway(self, gateway_token: bytes | None) -> KnownGateway | None:
        """Return the gateway whose token is accepted now. gateway_token: its digest. Errors: UNAVAILABLE."""
        # A question without a key is answered as soon as the gateway is known.
        return (await self.decide(Question(gateway_token, Reason.KEY_MISSING))).gateway

    async def take_report(self, gateway: KnownGateway, body: bytes, *, lines: bool) -> Receipt:
        """Read, write and count what a gateway reports. Errors: UnreadableReport; DatabaseError, nothing was taken."""
        return await self._ingests.run(partial(_take, gateway, body, lines=lines))

    def complain(self, what: str, error: Exception) -> None:
        """Log why there was no answer: at most once a second where the database is away, for that concerns all."""
        if not isinstance(error, UNAVAILABLE):
            logger.error("%s: unexpected.", what, exc_info=error)
        elif self._complaints.take():
            logger.warning("%s: the database cannot be asked (%s).", what, type(error).__name__)

    async def close(self) -> None:
        """Use nothing any more, write what is counted, wait for what runs and close the connections."""
        try:
            if self._lease is not None:
                await self._lease.close()
        finally:
            await self.counter.drain()
        for threads in (self._lookups, self._ingests, self._flushes):
            await asyncio.to_thread(threads.close)


def _decide(question: Question) -> tuple[Found, Decision]:
    key = None if isinstance(question.key, Reason) else question.key
    found = look_up(question.gateway_token, key) if question.gateway_token is not None else Found(None, None)
    # The time is read last: what ended while the database was asked is over.
    return found, decide(question, found.gateway, found.version, clock.now())


def _take(gateway: KnownGateway, body: bytes, *, lines: bool) -> Receipt:
    events = read_body(body, lines=lines)
    # It may be done again: what the first try has written is found to be there.
    return surviving_restart(lambda: ingest(gateway_id=gateway.id, events=events))

"""What the data plane runs on: its threads to the database, and its counter. One for each event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from django.conf import settings
from django.db import DatabaseError

from audit import clock
from gateways.decision import Decision, KnownGateway, Question, Reason, decide
from gateways.lookup import look_up
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
        self.counter = Counter(self._flushes, event_rate=settings.KEEPTRUSTS_EVENT_RATE)
        self.counter.start()

    async def decide(self, question: Question) -> Decision:
        """Return the decision by what the database knows now. Errors: UNAVAILABLE."""
        async with asyncio.timeout(DECIDE_WITHIN):
            return await self._lookups.run(partial(_decide, question))

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
        """Write what is counted, wait for what runs and close the connections."""
        await self.counter.drain()
        for threads in (self._lookups, self._ingests, self._flushes):
            await asyncio.to_thread(threads.close)


def _decide(question: Question) -> Decision:
    if question.gateway_token is None:
        return decide(question, None, None, clock.now())
    key = None if isinstance(question.key, Reason) else question.key
    found = look_up(question.gateway_token, key)
    # The time is read last: what ended while the database was asked is over.
    return decide(question, found.gateway, found.version, clock.now())


def _take(gateway: KnownGateway, body: bytes, *, lines: bool) -> Receipt:
    events = read_body(body, lines=lines)
    # It may be done again: what the first try has written is found to be there.
    return surviving_restart(lambda: ingest(gateway_id=gateway.id, events=events))

"""How a change reaches the gateways' processes at once: over Redis. Only speed depends on it, never safety.

Who announces names a list on which each process that has applied the change leaves its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final
from uuid import UUID, uuid4

import orjson
import redis
import redis.asyncio
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from keys.narrowing import Fact, Kind

logger = logging.getLogger(__name__)

CHANNEL: Final = "keeptrusts:narrowed"
# Seconds. Whoever waits for an answer longer than this waits for leases instead.
PATIENCE: Final = 0.25
ANSWERS_KEPT: Final = 30
AGAIN_AFTER: Final = 0.5


class Announcement:
    """A change that was made known; `next_answer` gives those who have applied it, one at a time."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        """Make it known. Errors: redis.RedisError."""
        self._answers = f"keeptrusts:applied:{uuid4()}"
        message = {"answers": self._answers, "facts": [tuple(fact) for fact in facts]}
        _client().publish(CHANNEL, orjson.dumps(message))

    def next_answer(self, seconds: float) -> UUID | None:
        """Return the next process that has applied it, None if there is none in time. Errors: redis.RedisError."""
        found = _client().blpop([self._answers], timeout=seconds)
        return UUID(bytes=found[1]) if isinstance(found, Sequence) else None


class Listener:
    """Applies what is announced, on the event loop that runs `listen`."""

    def __init__(self, process_id: UUID, apply: Callable[[Fact], None]) -> None:
        self._process_id = process_id
        self._apply = apply

    async def listen(self) -> None:
        """Listen until cancelled; where Redis is away, try again."""
        away = False
        while True:
            try:
                client = redis.asyncio.Redis.from_url(
                    settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=5, socket_timeout=10
                )
                async with client, client.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(CHANNEL)
                    if away:
                        logger.info("Redis is back: changes are heard of at once again.")
                    away = False
                    while True:
                        message = await heard.get_message(timeout=5)
                        if message is not None:
                            await self._take(client, message["data"])
            except (redis.RedisError, OSError, TimeoutError) as error:
                if not away:
                    logger.warning("Redis is away (%s): changes are read with each renewal.", type(error).__name__)
                away = True
                await asyncio.sleep(AGAIN_AFTER)

    async def _take(self, client: redis.asyncio.Redis[bytes], data: bytes) -> None:
        try:
            message = orjson.loads(data)
            answers, facts = message["answers"], [Fact(row, Kind(kind), id_) for row, kind, id_ in message["facts"]]
            for fact in facts:
                self._apply(fact)
        except (ValueError, TypeError, KeyError):
            # Another release of ours, or nobody of ours. The next renewal reads the rows.
            return logger.exception("An announcement that is none.")
        async with client.pipeline(transaction=False) as pipe:
            pipe.rpush(answers, self._process_id.bytes)
            pipe.expire(answers, ANSWERS_KEPT)
            await pipe.execute()
        return None


@cache
def _client() -> redis.Redis[bytes]:
    # Tried once more, because a connection kept from before may be one to a server that has restarted since.
    once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=once_more
    )

"""How a change reaches the gateways' processes at once: over Redis. Only speed depends on it, never safety.

Who announces names a list on which each process that has applied the change leaves its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, cast
from uuid import UUID, uuid4

import orjson
import redis
import redis.asyncio
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from keys.narrowing import Fact

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
        return UUID(bytes=cast("bytes", found[1])) if isinstance(found, Sequence) else None


class Listener:
    """Applies what is announced, on the event loop that runs `listen`."""

    def __init__(self, process_id: UUID, apply: Callable[[Fact], None]) -> None:
        self._process_id = process_id
        self._apply = apply
        self._stopped = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Listen until `stop`; where Redis is away, try again."""
        away = False
        while not self._stopped.is_set():
            client = redis.asyncio.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=5, socket_timeout=10
            )
            # A task of its own, so that a stop never cuts short the closing of connections.
            self._hearing = asyncio.create_task(self._hear(client), name="announced changes")
            try:
                await self._hearing
            except asyncio.CancelledError:
                return
            except Exception as error:
                if not away:
                    logger.warning("Redis is away (%s): changes are read with each renewal.", type(error).__name__)
                away = True
            finally:
                with contextlib.suppress(redis.RedisError, OSError):
                    await client.aclose()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), AGAIN_AFTER)

    def stop(self) -> None:
        """Let `listen` return soon."""
        self._stopped.set()
        if self._hearing is not None:
            self._hearing.cancel()

    async def _hear(self, client: redis.asyncio.Redis) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(CHANNEL)
            while True:
                message = await heard.get_message(timeout=5)
                if message is not None:
                    await self._take(client, message["data"])

    async def _take(self, client: redis.asyncio.Redis, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            answers, facts = str(message["answers"]), [Fact(str(kind), str(id_)) for kind, id_ in message["facts"]]
            for fact in facts:
                self._apply(fact)
        except Exception:
            # Another release of ours, or nobody of ours. The next renewal reads the rows.
            return logger.exception("An announcement that is none.")
        async with client.pipeline(transaction=False) as pipe:
            pipe.rpush(answers, self._process_id.bytes)
            pipe.expire(answers, ANSWERS_KEPT)
            await pipe.execute()
        return None


@cache
def _client() -> redis.Redis:
    # Tried once more, because a connection kept from before may be one to a server that has restarted since.
    once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=once_more
    )

"""Is everything there that this process needs, and do the jobs run? Asked by load balancers and by people.

Whoever asks gets an answer within two seconds, though the database hangs, and asks nobody more often than once a
second, however many ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from redis import Redis
from redis.exceptions import RedisError

from audit.sealing import newest_checkpoint
from operations import jobs
from usage.threads import DatabaseThreads, drop_broken_connection, surviving_restart

# Seconds: how long one answer holds, and how long a check may take.
HOLDS_FOR: Final = 1.0
WITHIN: Final = 1.5
# Seconds. Beat sends something every few seconds.
BEAT_LATE_AFTER: Final = 60.0
# Of the newest checkpoint, beyond the age at which the sealer writes another one.
CHECKPOINT_GRACE: Final = 30.0

DATABASE, REDIS, MIGRATIONS, BEAT, CHECKPOINT = "database", "redis", "migrations", "beat", "checkpoint"
NAMES: Final = (DATABASE, REDIS, MIGRATIONS, BEAT, CHECKPOINT)


class State(StrEnum):
    OK = "ok"
    # There is none in this installation.
    UNUSED = "unused"
    # Longer ago than it should be, or never.
    LATE = "late"
    # Code and database are not of one release: what this release needs is not there.
    MISSING = "missing"
    FAILED = "failed"
    NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. age: seconds since it last happened, None where it never has or where there is no age."""

    state: State
    age: float | None = None

    @property
    def is_well(self) -> bool:
        return self.state in {State.OK, State.UNUSED}

    def as_json(self) -> dict[str, Any]:
        return {"state": self.state.value} | ({} if self.age is None else {"age_seconds": round(self.age, 1)})


type Checks = dict[str, Check]


class Readiness:
    """Asks on one event loop, in threads of its own; `close` it there."""

    def __init__(self) -> None:
        self._database = DatabaseThreads(1, "readiness")
        self._redis = ThreadPoolExecutor(1, thread_name_prefix="readiness-redis")
        self._probes = (
            _Probe(lambda: self._database.run(ask_database), (DATABASE, MIGRATIONS, BEAT, CHECKPOINT)),
            _Probe(self._ask_redis, (REDIS,)),
        )
        self._answer: asyncio.Task[Checks] | None = None
        self._holds_until = 0.0

    async def checks(self, exclude: Collection[str] = ()) -> Checks:
        """Return what each check but those of `exclude` found, at most a second ago."""
        if self._answer is None or (self._answer.done() and time.monotonic() >= self._holds_until):
            self._answer = asyncio.get_running_loop().create_task(self._ask())
        # Shielded: whoever goes away does not take the answer from the others who wait for it.
        found = await asyncio.shield(self._answer)
        return {name: found[name] for name in NAMES if name not in exclude}

    async def from_database[T](self, ask: Callable[[], T]) -> T | None:
        """Return what `ask` returns in the thread of the checks; None where the database hangs or takes too long."""
        if self._probes[0].hangs:
            return None
        try:
            return await asyncio.wait_for(asyncio.shield(self._database.run(ask)), WITHIN)
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._redis.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._database.close)

    async def _ask(self) -> Checks:
        found = await asyncio.gather(*(probe.ask() for probe in self._probes))
        self._holds_until = time.monotonic() + HOLDS_FOR
        return {name: check for checks in found for name, check in checks.items()}

    async def _ask_redis(self) -> Checks:
        return await asyncio.get_running_loop().run_in_executor(self._redis, ask_redis)


class _Probe:
    """One thing that is asked, which may never answer: it is not asked again before it has."""

    def __init__(self, ask: Callable[[], Awaitable[Checks]], names: tuple[str, ...]) -> None:
        self._ask = ask
        self._names = names
        self._asked: asyncio.Future[Checks] | None = None

    @property
    def hangs(self) -> bool:
        return self._asked is not None

    async def ask(self) -> Checks:
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._ask())
        done, _ = await asyncio.wait({self._asked}, timeout=WITHIN)
        if not done:
            return dict.fromkeys(self._names, Check(State.NO_ANSWER))
        asked, self._asked = self._asked, None
        return dict.fromkeys(self._names, Check(State.FAILED)) if asked.exception() else asked.result()


def ask_database() -> Checks:
    """Return what the database says: itself, migrations, the last beat, the last checkpoint. Errors: none."""
    found = dict.fromkeys((DATABASE, MIGRATIONS, BEAT, CHECKPOINT), Check(State.FAILED))
    try:
        applied = surviving_restart(lambda: set(MigrationRecorder(connection).applied_migrations()))
        found[DATABASE] = Check(State.OK)
        found[MIGRATIONS] = Check(State.OK if needed_migrations() <= applied else State.MISSING)
        found[BEAT] = _aged(jobs.age(jobs.last_beat()), BEAT_LATE_AFTER)
        found[CHECKPOINT] = _checkpoint()
    except (DatabaseError, InterfaceError):
        # What was found before stands: a table that is not there yet is a migration that is missing.
        drop_broken_connection()
    return found


def ask_redis() -> Checks:
    """Return whether Redis answers, where there is one. Errors: none."""
    if not settings.REDIS_URL:
        return {REDIS: Check(State.UNUSED)}
    try:
        with Redis.from_url(settings.REDIS_URL, socket_timeout=WITHIN, socket_connect_timeout=WITHIN) as server:
            server.ping()
    except (RedisError, OSError):
        return {REDIS: Check(State.FAILED)}
    return {REDIS: Check(State.OK)}


@cache
def needed_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app, as this release has them."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def _checkpoint() -> Check:
    newest = newest_checkpoint()
    return _aged(jobs.age(newest.at if newest else None), settings.KEEPTRUSTS_CHECKPOINT_SECONDS + CHECKPOINT_GRACE)


def _aged(age: float | None, late_after: float) -> Check:
    return Check(State.OK if age is not None and age <= late_after else State.LATE, age)

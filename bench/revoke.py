"""Revoke: how long until everybody refuses, and whether anybody is late, while the keys are being asked for.

Four gateway processes are asked 200 times a second each about the keys that are being revoked. A late allow is a
question that was sent after revoke had returned, and was answered 200. Then the same while things go wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import IO, Any, Final, cast

import psycopg

from bench.contestants import PATH, our_environment, printed
from bench.load import say, serving
from bench.racing import Race, racing
from keeptrusts.web import web_command
from tests.processes import ROOT, descendants, eventually
from tests.servers import KillableServer, free_port, killable_postgresql, killable_redis

PROCESSES: Final = 4
LEASE: Final = 2.0
KEYS: Final = "SELECT array_agg(id::text ORDER BY name) FROM keys_gatewaykey"
LIVE: Final = "SELECT count(*) FROM gateways_gatewayprocess WHERE leased_until > clock_timestamp()"
APPLIED: Final = """
SELECT bool_and(pg_visible_in_snapshot(i.transaction::text::xid8, p.applied::pg_snapshot))
FROM keys_invalidation i, gateways_gatewayprocess p WHERE i.object_id = %s AND p.leased_until > clock_timestamp()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--revokes", type=int, default=10_000, help="how many without any trouble (10000)")
    parser.add_argument("--troubled", type=int, default=200, help="how many in scenarios where that is quick (200)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Revoke undisturbed and in every scenario; return the figures."""
    quick, slow = options.troubled, max(4, options.troubled // 20)
    with tempfile.TemporaryDirectory(prefix="keeptrusts-bench-") as folder, ExitStack() as stack:
        database = stack.enter_context(killable_postgresql(durable=True))
        redis = stack.enter_context(killable_redis())
        environment = our_environment(Path(folder), database.url, redis.url)
        keys = options.revokes + 2 * quick + 4 * slow + 10
        say(f"Making {keys:,} keys...")
        token, *values = printed("bench.population", keys, environment)
        stage = Stage(environment, database, redis, token, values)
        stage.ids = stage.query(KEYS)
        stage.urls = [stack.enter_context(stage.gateway_process()) for _ in range(PROCESSES)]
        figures = stage.measure("undisturbed", options.revokes, undisturbed)
        scenarios = {
            "process_stopped": stage.measure("one process is stopped (SIGSTOP)", slow, process_stopped),
            "console_killed": stage.measure("the console dies between commit and publish", slow, console_killed),
            "redis_restarted": stage.measure("Redis is restarted", quick, redis_restarted),
            "redis_cut_off": stage.measure("Redis is cut off from the console alone", slow * 2, redis_cut_off),
            "postgresql_restarted": stage.measure("PostgreSQL is restarted", quick, postgresql_restarted),
        }
    return {**figures, "lease_seconds": LEASE, "scenarios": scenarios}


@dataclass
class Stage:
    """Servers, gateway processes and keys. Each key is revoked once, in the order of `ids`."""

    environment: dict[str, str]
    database: KillableServer
    redis: KillableServer
    token: str
    values: list[str]
    ids: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    next: int = 0

    @contextmanager
    def gateway_process(self) -> Iterator[str]:
        port = free_port()
        url = f"http://127.0.0.1:{port}{PATH}"
        command = web_command("127.0.0.1", port, application="gateways.asgi:application")
        with serving(command, self.environment, url) as server:
            self.pids.append(server.process.pid)
            yield url

    def measure(self, name: str, revokes: int, scenario: Callable[[Stage, Run], None]) -> dict[str, object]:
        """Let the scenario revoke so many keys under load; return what came of it."""
        self.await_leases()
        with racing(self.urls, token=self.token, values=self.values) as race:
            run = Run(race, range(self.next, self.next + revokes))
            scenario(self, run)
            self.next += revokes
        figures = run.figures()
        say(f"{name}: {figures}")
        return figures

    def query(self, sql: str, *parameters: object) -> Any:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            row = connection.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def await_leases(self) -> None:
        if not eventually(lambda: self.query(LIVE) >= PROCESSES, 30):
            sys.exit("Not every gateway process has a lease.")


@dataclass
class Run:
    """The keys of one scenario, and when each revoke had returned."""

    race: Race
    keys: range
    returned_at: dict[int, float] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    lapsed: int = 0

    def numbers(self) -> Iterator[int]:
        """Give the numbers of the keys, one after the other; the load follows."""
        for number in self.keys:
            self.race.position.value = number
            yield number

    def returned(self, number: int, at: float, milliseconds: float) -> None:
        self.returned_at[number] = at
        self.milliseconds.append(milliseconds)

    def figures(self) -> dict[str, object]:
        # Of a key that was not revoked the load only tells that it was asked about.
        later = [asked for asked in self.race.answers if asked.started_at > self.returned_at.get(asked.key, math.inf)]
        percentiles = quantiles(self.milliseconds, n=100, method="inclusive")
        return {
            "revokes": len(self.returned_at),
            "authorizes": len(self.race.answers),
            "authorizes_after_revoke": len(later),
            "late_allows": sum(asked.status == 200 for asked in later),
            "p50_ms": round(percentiles[49], 1),
            "p99_ms": round(percentiles[98], 1),
            "max_ms": round(max(self.milliseconds), 1),
            "leases_waited_for": self.lapsed,
        }


class Console:
    """A console in a process of its own (bench/revoking_console.py)."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.revoking_console"],
            cwd=ROOT,
            env={**environment, "DJANGO_SETTINGS_MODULE": "keeptrusts.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._orders, self._answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        if self._answer() is None:
            sys.exit("The console did not start.")

    def revoke(self, stage: Stage, run: Run, number: int) -> None:
        """Revoke the key with this number; tried again while the database is away."""
        while (told := self.tell(stage.ids[number])) is not None and "error" in told:
            time.sleep(0.05)
        if told is None:
            sys.exit("The console ended by itself.")
        run.returned(number, told["returned_at"], told["milliseconds"])
        run.lapsed += (told["processes"] or 0) - told["applied"]

    def tell(self, key_id: str) -> dict[str, Any] | None:
        """Return what it says of the revoke; None where it is gone."""
        self._orders.write(f"{key_id}\n")
        self._orders.flush()
        return self._answer()

    def close(self) -> None:
        for pipe in (self._orders, self._answers):
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait(30)

    def _answer(self) -> dict[str, Any] | None:
        line = self._answers.readline()
        return dict(json.loads(line)) if line else None


@contextmanager
def console(environment: dict[str, str]) -> Iterator[Console]:
    running = Console(environment)
    try:
        yield running
    finally:
        running.close()


# --- scenarios --------------------------------------------------------------------------------------------------------


def undisturbed(stage: Stage, run: Run) -> None:
    with console(stage.environment) as ours:
        for number in run.numbers():
            ours.revoke(stage, run, number)


def process_stopped(stage: Stage, run: Run) -> None:
    with console(stage.environment) as ours:
        for number in run.numbers():
            time.sleep(0.3)  # asked for meanwhile, so that all four hold the key
            family = [stage.pids[number % PROCESSES], *descendants(stage.pids[number % PROCESSES])]
            _signal(family, signal.SIGSTOP)
            try:
                ours.revoke(stage, run, number)
            finally:
                _signal(family, signal.SIGCONT)
            stage.await_leases()


def console_killed(stage: Stage, run: Run) -> None:
    for number in run.numbers():
        with console({**stage.environment, "BENCH_DIES_BEFORE_PUBLISH": "yes"}) as ours:
            time.sleep(0.3)
            if ours.tell(stage.ids[number]) is not None:
                sys.exit("The console did not die.")
            gone_at = time.monotonic()
            while not stage.query(APPLIED, stage.ids[number]):
                time.sleep(0.01)
        at = time.monotonic()
        run.returned(number, at, 1_000 * (at - gone_at))


def redis_restarted(stage: Stage, run: Run) -> None:
    with console(stage.environment) as ours:
        for number in run.numbers():
            if number % 50 == 25:
                stage.redis.kill()
                ours.revoke(stage, run, number)
                stage.redis.restart()
            else:
                ours.revoke(stage, run, number)


def redis_cut_off(stage: Stage, run: Run) -> None:
    # Connections are taken and never answered, as behind a firewall that drops packets.
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        console({**stage.environment, "REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}) as ours,
    ):
        for number in run.numbers():
            ours.revoke(stage, run, number)


def postgresql_restarted(stage: Stage, run: Run) -> None:
    with console(stage.environment) as ours:
        for number in run.numbers():
            if number % 50 == 25:
                stage.database.kill()
                stage.database.restart()
            ours.revoke(stage, run, number)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

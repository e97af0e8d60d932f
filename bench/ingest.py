"""How many reported usage events a second one process takes, beside plain COPY of the same rows.

Batches of 1,000 are posted to a granian process with one worker, and the same number of rows is copied into the same
table with its indexes, ready as text, in one transaction for each slice; slices of both alternate, and the ratio is the
median of theirs. Then eight senders report the same batches, each in an order of its own, while PostgreSQL is killed by
SIGKILL again and again: afterwards every sum must be what the distinct events add up to.

PostgreSQL waits for the disk at every commit.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from bench.load import say, serving
from bench.reporting import BATCH, FIRST_REPLAYED, USAGE, Events, Replayer, Sender
from keeptrusts.web import web_command
from tests.processes import clean_environment
from tests.servers import KillableServer, free_port, killable_postgresql

KEYS: Final = 50
CONNECTIONS: Final = 4
SENDERS: Final = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="slices of each kind (7)")
    parser.add_argument("--batches", type=int, default=20, help="batches in a slice (20)")
    parser.add_argument("--kills", type=int, default=20, help="how often the database is killed (20)")


def run(options: argparse.Namespace) -> dict[str, object]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptrusts-bench-")))
        database = stack.enter_context(killable_postgresql(durable=True))
        plant = _planted(database.url, folder)
        port = stack.enter_context(_served(database.url, folder))
        figures = _speed(plant, port, options.rounds, options.batches)
        return figures | _replays(plant, port, database, options.kills)


@dataclass(frozen=True)
class _Plant:
    """An installation with keys and two gateways: one reports, the other's rows are copied."""

    url: str
    token: str
    gateway_id: Any
    copied_id: Any
    versions: dict[str, int]

    def events(self) -> Events:
        return Events(list(self.versions), datetime.now(UTC))


def _planted(url: str, folder: Path) -> _Plant:
    """Make it in the database, and set Django up for it in this process."""
    os.environ |= {
        "DATABASE_URL": url,
        "KEEPTRUSTS_SECRET_KEY": secrets.token_hex(32),
        "KEEPTRUSTS_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "keeptrusts.settings",
    }
    import django

    django.setup()
    from django.core.management import call_command

    from tests.factories import make_gateway, make_key
    from usage import tasks

    call_command("migrate", verbosity=0)
    tasks.tend_events()
    made = make_gateway("bench", usage_source="report")
    keys = [make_key() for _ in range(KEYS)]
    versions = {str(issued.key.id): issued.version.id for issued in keys}
    return _Plant(url, made.value, made.gateway.id, make_gateway("copied").gateway.id, versions)


@contextmanager
def _served(url: str, folder: Path) -> Iterator[int]:
    """Serve the whole application for the block, as `manage.py up` does, and give its port."""
    environment = clean_environment(
        DATABASE_URL=url,
        KEEPTRUSTS_SECRET_KEY=os.environ["KEEPTRUSTS_SECRET_KEY"],
        KEEPTRUSTS_DATA_DIR=str(folder),
        KEEPTRUSTS_LOG_LEVEL="ERROR",
    )
    port = free_port()
    with serving(web_command("127.0.0.1", port), environment, f"http://127.0.0.1:{port}{USAGE}"):
        yield port


def _speed(plant: _Plant, port: int, rounds: int, batches: int) -> dict[str, object]:
    senders = [Sender(port, plant.token) for _ in range(CONNECTIONS)]
    ours, copied = [], []
    numbers = count()
    for round_ in range(-1, rounds):
        events = plant.events()
        bodies = [events.body(next(numbers)) for _ in range(batches)]
        rows = b"".join(_rows(plant, events.batch(next(numbers))) for _ in range(batches))
        taken, written = _reported(senders, bodies), _copied(plant.url, rows, batches * BATCH)
        if round_ < 0:
            continue  # caches and connections are warm now
        ours.append(taken)
        copied.append(written)
        say(f"round {round_ + 1}: {taken:,.0f} events/s, COPY {written:,.0f} rows/s, ratio {taken / written:.2f}")
    for sender in senders:
        sender.close()
    if not _are_exact(_counted(plant), batches * (rounds + 1) * BATCH):
        sys.exit("The sums are wrong: there is nothing to be measured.")
    return {
        "events_per_s": round(statistics.median(ours)),
        "copy_rows_per_s": round(statistics.median(copied)),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, copied, strict=True)), 3),
    }


def _reported(senders: Sequence[Sender], bodies: list[bytes]) -> float:
    """Post the bodies on all connections at once; return events a second."""
    waiting, failed = list(bodies), []

    def work(sender: Sender) -> None:
        while waiting:
            try:
                body = waiting.pop()
            except IndexError:
                return
            answer = sender.send(body)
            if answer is None or answer["accepted"] != BATCH:
                failed.append(answer)

    threads = [threading.Thread(target=work, args=[sender]) for sender in senders]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failed:
        raise RuntimeError(f"not every event was taken as new: {failed[0]}")
    return len(bodies) * BATCH / seconds


def _copied(url: str, rows: bytes, number: int) -> float:
    """Copy the rows, ready as text, in one transaction on a connection that is there; return rows a second."""
    from usage.events import NewEvent

    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        started = time.perf_counter()
        with connection.cursor().copy(f"COPY usage_usageevent ({', '.join(NewEvent._fields)}) FROM STDIN") as copy:
            for start in range(0, len(rows), 65_536):
                copy.write(rows[start : start + 65_536])
        connection.commit()
        return number / (time.perf_counter() - started)


def _rows(plant: _Plant, events: list[dict[str, Any]]) -> bytes:
    """Return the events as rows for COPY, as ingest would write them."""
    text = io.StringIO()
    for event in sorted(events, key=lambda event: str(event["id"])):
        facts = (event["id"], event["occurred_at"], event["occurred_at"], "served", "")
        version = plant.versions[event["key_id"]]
        names = ("status", "latency_ms", "method", "path", "client_ip", "provider", "model", "operation")
        more = [event[name] for name in (*names, "input_tokens", "output_tokens", "cost")]
        row = (plant.copied_id, *facts, event["key_id"], version, r"\N", event["decision_id"], *more)
        text.write("\t".join(map(str, row)) + "\n")
    return text.getvalue().encode()


def _replays(plant: _Plant, port: int, database: KillableServer, kills: int) -> dict[str, object]:
    """Let senders replay the same batches while the database is killed; return what came of it."""
    before, events, ended = _counted(plant)["events"], plant.events(), threading.Event()
    senders = [Replayer(number, Sender(port, plant.token), events, ended) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    for kill in range(kills):
        time.sleep(random.uniform(0.5, 2.5))
        database.kill()
        database.restart()
        got_rid = min(sender.reached for sender in senders) - FIRST_REPLAYED
        say(f"kill {kill + 1}: every sender got rid of {got_rid} batches")
    ended.set()
    for sender in senders:
        sender.join()
        if sender.failure is not None:
            raise sender.failure
    # Whoever was ahead has sent what the others have not: now all send all.
    reached = max(sender.reached for sender in senders)
    for sender in senders:
        sender.send_until(reached)
        sender.close()
    distinct, counted = (reached - FIRST_REPLAYED) * BATCH, _counted(plant)
    return {
        "kills": kills,
        "distinct_events": distinct,
        "sent_events": sum(sender.sent for sender in senders) * BATCH,
        "unanswered_batches": sum(sender.unanswered for sender in senders),
        "duplicates_counted": counted["requests"] - before - distinct,
        "sums_exact": _are_exact(counted, before + distinct),
    }


def _are_exact(counted: dict[str, int], expected: int) -> bool:
    """Say whether every sum is what the distinct events add up to; on stderr, where it is not."""
    totals = {name: counted[name] for name in ("events", "requests", "of_keys", "of_versions", "statuses")}
    exact = set(totals.values()) == {expected} and counted["tokens"] == counted["tokens_of_events"]
    if not exact:
        say(f"NOT EXACT: {expected} events were sent, and counted were {counted}")
    return exact


def _counted(plant: _Plant) -> dict[str, int]:
    """Return what the reporting gateway's events and every kind of sum say."""
    with psycopg.connect(plant.url, row_factory=dict_row) as connection:
        counted = connection.execute(_COUNTED, {"gateway": plant.gateway_id}).fetchone() or {}
    return {name: int(figure or 0) for name, figure in counted.items()}


_COUNTED: Final = """
WITH events AS (
    SELECT count(*) AS events, sum(input_tokens + output_tokens) AS tokens_of_events
    FROM usage_usageevent WHERE gateway_id = %(gateway)s
), buckets AS (
    SELECT sum(requests) AS requests, sum(status_2xx + status_4xx + status_5xx) AS statuses,
        sum(input_tokens + output_tokens) AS tokens
    FROM usage_usagebucket WHERE gateway_id = %(gateway)s
), keys AS (SELECT sum(total_requests) AS of_keys FROM usage_keymetrics)
SELECT *, (SELECT sum(total_requests) FROM usage_versionmetrics) AS of_versions FROM events, buckets, keys
"""

"""Authorize: questions a second that one worker answers, beside what else a team could deploy.

Ours is served as `manage.py up` serves it, counts included, on PostgreSQL (which waits for its disk) and Redis. Beside
it, one worker each, on the same machine: nginx that answers `return 200`; an ASGI application that does nothing, on our
server with our options; djangorestframework-api-key on what `startproject` gives, gunicorn, and PostgreSQL, as it comes
and with the kept connection that a team would soon set. All of them are asked by wrk in turn, a second each, because a
machine's speed drifts: a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import psycopg

from bench.contestants import Contestant, bare_asgi, drf_api_key, nginx, ours
from bench.load import CONNECTIONS, Slice, say
from tests.processes import eventually
from tests.servers import postgresql, redis

COUNTED: Final = "SELECT coalesce(sum(requests), 0)::int FROM usage_usagebucket"
PENDING: Final = "SELECT count(*) FROM usage_pendingtallies"
RATIOS: Final = {
    "nginx_return_200": "ratio_nginx",
    "bare_asgi": "ratio_bare",
    "drf_api_key": "ratio_drf",
    "drf_api_key_kept_connection": "ratio_drf_kept_connection",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--uncached", action="store_true", help="ours asks PostgreSQL about every request; no Redis")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured (15)")
    parser.add_argument("--seconds", type=int, default=1, help="how long each time (1)")
    parser.add_argument("--keys", type=int, default=10_000, help="how many keys each of them knows (10000)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure all of them, see that ours has counted what it allowed, and return the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptrusts-bench-")))
        database = stack.enter_context(postgresql(durable=True))
        redis_url = "" if options.uncached else stack.enter_context(redis())
        say(f"Making {options.keys:,} keys for each...")
        us = stack.enter_context(ours(folder, database, redis_url, options.keys))
        contestants = [
            us,
            stack.enter_context(nginx(folder, us.authorizations)),
            stack.enter_context(bare_asgi(us.authorizations)),
            *stack.enter_context(drf_api_key(folder, database, options.keys)),
        ]
        counted = count_one_by_one(us, database)
        rounds = measure(contestants, rounds=options.rounds, seconds=options.seconds)
        us.server.process.terminate()
        us.server.ends()
        check_counts(database, [each[us.name] for each in rounds], before=counted)
    return figures(us.name, rounds[1:])


def count_one_by_one(us: Contestant, database: str) -> int:
    """Ask once with each key, and return how many were allowed. Ends the run if the counts differ.

    So every answer is seen, and afterwards every key is known.
    """
    address = urlsplit(us.url)
    authorizations = us.authorizations.read_text().splitlines()
    asked, allowed = len(authorizations), 0
    with closing(HTTPConnection(address.netloc)) as connection:
        for authorization in authorizations:
            headers = {"Authorization": authorization, "X-Keeptrusts-Gateway-Token": us.token}
            connection.request("GET", address.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            allowed += answer.status == 200
    if not allowed or not eventually(lambda: first_of(database, COUNTED) == allowed):
        sys.exit(f"Of {asked:,} requests {allowed:,} were allowed, but {first_of(database, COUNTED):,} were counted.")
    say(f"Asked {asked:,} times, one by one: {allowed:,} were allowed, and exactly so many are counted.")
    return allowed


def measure(contestants: Sequence[Contestant], *, rounds: int, seconds: int) -> list[dict[str, Slice]]:
    """Return the slices of each round; the first is to warm up, and comes on top."""
    measured = []
    for number in range(rounds + 1):
        slices = {one.name: one.measure(seconds) for one in contestants}
        rates = "  ".join(f"{name} {found.per_second:,.0f}/s" for name, found in slices.items())
        say(f"round {number} of {rounds}: {rates}" if number else f"to warm up: {rates}")
        if lost := {name: found.lost for name, found in slices.items() if found.lost}:
            sys.exit(f"Requests were left without an answer: {lost}")
        measured.append(slices)
    return measured


def check_counts(database: str, slices: Sequence[Slice], *, before: int) -> None:
    """End the run if what was allowed is not what was counted.

    When wrk's time is up it hangs up, on each connection before at most one answer that was given and counted.
    """
    if not eventually(lambda: not first_of(database, PENDING), 60):
        sys.exit("The worker did not add up what was counted.")
    allowed = sum(found.answers - found.refused for found in slices)
    counted = first_of(database, COUNTED) - before
    if not allowed <= counted <= allowed + CONNECTIONS * len(slices):
        sys.exit(f"wrk saw {allowed:,} requests allowed, but {counted:,} were counted.")
    say(f"wrk saw {allowed:,} requests allowed; {counted:,} are counted, with those that it did not wait for.")


def first_of(database: str, question: str) -> int:
    """Return the number that answers the question."""
    with psycopg.connect(database) as connection:
        row = connection.execute(question).fetchone()
    return int(row[0]) if row else 0


def figures(us: str, rounds: Sequence[Mapping[str, Slice]]) -> dict[str, object]:
    """Return the medians: of the rates, of our latencies, and of each round's ratios."""
    found: dict[str, object] = {}
    names = list(rounds[0])
    for name in names:
        found[f"{name}_rps"] = round(median(each[name].per_second for each in rounds))
    found["p50_ms"] = round(median(each[us].p50_ms for each in rounds), 2)
    found["p99_ms"] = round(median(each[us].p99_ms for each in rounds), 2)
    for name in names[1:]:
        ratio = median(each[us].per_second / each[name].per_second for each in rounds)
        found[RATIOS[name]] = round(ratio, 3)
    return found

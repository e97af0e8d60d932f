"""Memory: bytes that a gateway process takes for each key that it holds, every index included.

Keys are made as the database's rows would make them, learnt as after a question, and the growth of this process's
resident memory is divided by their number.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import secrets
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import django

from bench.load import say

GROUPS: Final = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many keys are held (1000000)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Hold so many keys; return what each of them takes, and how long the garbage collector was in the way."""
    with tempfile.TemporaryDirectory(prefix="keeptrusts-bench-") as folder:
        # Only the shapes are measured here; there is no database.
        os.environ |= {"KEEPTRUSTS_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "keeptrusts.settings"}
        django.setup()
        from gateways.decision import Question
        from gateways.lookup import found_in
        from gateways.memory import Memory

        say(f"Learning {options.keys:,} keys...")
        memory = Memory(options.keys)
        now = datetime.now(UTC)
        token = secrets.token_bytes(32)
        _learn(memory, found_in, Question, token, _row(0, now))
        before = _resident()
        pauses = _watched_pauses()
        for number in range(1, options.keys):
            _learn(memory, found_in, Question, token, _row(number, now))
        longest = max(pauses, default=0.0)
        grown = _resident() - before
    return {
        "bytes_per_key": round(grown / (options.keys - 1), 1),
        "longest_pause_ms": round(1_000 * longest, 1),
        "keys": len(memory),
    }


def _learn(memory: Any, found_in: Any, question: Any, token: bytes, row: tuple[object, ...]) -> None:
    digest = secrets.token_bytes(32)
    memory.learn(memory.generation, question(token, digest), found_in([row], key_asked=True))


_GATEWAY: Final = (uuid4(), "authorize", False, "header", None, "[]")


def _row(number: int, now: datetime) -> tuple[object, ...]:
    """Return what the database gives of a key of a group that expires."""
    at = now + timedelta(microseconds=number)
    group = number % GROUPS + 1
    version = (number + 1, 1, at, None, None)
    key = (uuid4(), at + timedelta(days=90), None, None, "[]")
    return (*_GATEWAY, *version, *key, group, f"group-{group}", "[]", None)


def _watched_pauses() -> list[float]:
    """Return a list that every run of the garbage collector adds its seconds to, from now on."""
    pauses: list[float] = []
    started: list[float] = []

    def watch(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            started.append(time.perf_counter())
        elif started:
            pauses.append(time.perf_counter() - started.pop())

    gc.callbacks.append(watch)
    return pauses


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()

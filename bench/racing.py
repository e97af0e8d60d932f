"""The load that races revokes: each gateway process asked at a fixed rate about the keys that are revoked just now."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Final, NamedTuple
from urllib.parse import urlsplit

# Questions a second to each process, and how many of them may be without an answer at once.
RATE: Final = 200
MOST_OPEN: Final = 64
# Asked about are the keys from so many before the one that is next to be revoked to so many behind it.
BEHIND, AHEAD = 4, 8

_spawned = multiprocessing.get_context("spawn")


class Asked(NamedTuple):
    """A question about a key and its answer. started_at: before it was sent, by the machine's monotonic clock."""

    key: int
    started_at: float
    status: int


@dataclass
class Race:
    """The load while it runs. position: the number of the key that is next to be revoked."""

    position: Synchronized[int]
    answers: list[Asked] = field(default_factory=list)
    unanswered: int = 0


@contextmanager
def racing(urls: Sequence[str], *, token: str, values: Sequence[str]) -> Iterator[Race]:
    """Ask for the block; afterwards the race holds what was answered."""
    position: Synchronized[int] = _spawned.Value("i", 0)
    ours, theirs = _spawned.Pipe()
    load = _spawned.Process(target=_run, args=(list(urls), token, list(values), position, theirs), daemon=True)
    load.start()
    race = Race(position)
    ours.recv()  # it runs
    try:
        yield race
    finally:
        ours.send("stop")
        race.answers, race.unanswered = ours.recv()
        load.join()


def _run(urls: list[str], token: str, values: list[str], position: Synchronized[int], pipe: Connection) -> None:
    asyncio.run(_ask_all(urls, token, values, position, pipe))


async def _ask_all(
    urls: list[str], token: str, values: list[str], position: Synchronized[int], pipe: Connection
) -> None:
    answers: list[Asked] = []
    askers = [_Asker(url, token, values, position, answers) for url in urls]
    tasks = [asyncio.create_task(asker.ask_at_a_rate()) for asker in askers]
    pipe.send("runs")
    await asyncio.to_thread(pipe.recv)
    for task in tasks:
        task.cancel()
    # Who was stopped and goes on answers what it was asked meanwhile: that counts as well.
    await asyncio.sleep(1)
    pipe.send((answers, sum(asker.unanswered for asker in askers)))


class _Asker:
    def __init__(
        self, url: str, token: str, values: list[str], position: Synchronized[int], answers: list[Asked]
    ) -> None:
        self._address = urlsplit(url)
        self._head = f"GET {self._address.path} HTTP/1.1\r\nHost: bench\r\nX-Keeptrusts-Gateway-Token: {token}\r\n"
        self._values = values
        self._position = position
        self._answers = answers
        self._open: set[asyncio.Task[None]] = set()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.unanswered = 0

    async def ask_at_a_rate(self) -> None:
        due = time.monotonic()
        while True:
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._open) < MOST_OPEN:
                task = asyncio.create_task(self._ask())
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _ask(self) -> None:
        now = self._position.value
        key = random.randint(max(0, now - BEHIND), min(len(self._values) - 1, now + AHEAD))
        started_at = time.monotonic()
        try:
            if not self._idle:
                self._idle.append(await asyncio.open_connection(self._address.hostname, self._address.port))
            reader, writer = self._idle.pop()
            writer.write(f"{self._head}Authorization: Bearer {self._values[key]}\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError):
            self.unanswered += 1
            return
        self._idle.append((reader, writer))
        self._answers.append(Asked(key, started_at, int(answer[9:12])))

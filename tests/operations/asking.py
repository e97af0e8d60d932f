"""A probe's question, put to the application as a server would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from operations.asgi import Operations

LOCAL = ("127.0.0.1", 50_000)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Watcher:
    """Asks one application on one event loop."""

    def __init__(self) -> None:
        self.application = Operations()
        self.loop = asyncio.new_event_loop()

    def get(self, target: str, client: tuple[str, int] = LOCAL, method: str = "GET", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        return self.loop.run_until_complete(self._ask(path, query, client, method, headers))

    async def _ask(
        self, path: str, query: str, client: tuple[str, int], method: str, headers: dict[str, str]
    ) -> Answer:
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request"}

        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        await self.application(scope | {"client": client, "headers": named}, receive, send)
        start, body = sent
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], told, body["body"])


@contextmanager
def watching() -> Iterator[Watcher]:
    watcher = Watcher()
    try:
        yield watcher
    finally:
        watcher.loop.run_until_complete(watcher.application.close())
        watcher.loop.run_until_complete(watcher.loop.shutdown_default_executor())
        watcher.loop.close()

"""A data plane that runs beside a test, on an event loop of its own, asked by hand-made ASGI calls.

    with running_plane() as plane: plane.authorize(token, value).status

The test goes on in its own thread and changes keys by the real verbs between two questions.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from gateways.plane import DataPlane

type Header = tuple[bytes, bytes]

AUTHORIZE = "/gateway/v1/authorize"
USAGE = "/gateway/v1/usage"
INTROSPECT = "/gateway/v1/introspect"


@dataclass
class Answer:
    """What the server would send. headers: by their names in lower case; none is sent twice."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str | None:
        return self.headers.get("x-keeptrusts-reason")

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Plane:
    """The data plane, seen from a gateway."""

    application: DataPlane
    loop: asyncio.AbstractEventLoop

    def ask(
        self,
        method: str = "GET",
        path: str = AUTHORIZE,
        *,
        headers: Sequence[Header] = (),
        body: bytes = b"",
    ) -> Answer:
        return self.run(self.asking(method, path, headers=headers, body=body))

    def authorize(self, token: str | None, value: str | None, **headers: str) -> Answer:
        """Ask whether a request with this value may pass. headers: `x_forwarded_for="…"` and the like."""
        return self.ask(headers=question(token, value, **headers))

    def report(self, token: str | None, events: Sequence[object]) -> Answer:
        """Report usage as JSON."""
        return self.ask("POST", USAGE, headers=question(token), body=orjson.dumps({"events": events}))

    def run[T](self, doing: Coroutine[Any, Any, T]) -> T:
        """Return what `doing` returns on the plane's event loop."""
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(timeout=60)

    async def asking(
        self, method: str = "GET", path: str = AUTHORIZE, *, headers: Sequence[Header] = (), body: bytes = b""
    ) -> Answer:
        """The same as `ask`, for tests that ask many things at once."""
        sent: list[Mapping[str, Any]] = []
        # In pieces, as servers give it.
        pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)] or [b""]

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)}
        await self.application(scope, receive, send)
        start, end = sent
        assert start["type"] == "http.response.start"
        assert end["type"] == "http.response.body"
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), names
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], told, end["body"])

    def flush(self) -> None:
        """Return when everything that was counted is in the database."""

        async def flushed() -> None:
            engine = self.application._engine
            assert engine is not None
            assert await engine.counter.flush()

        self.run(flushed())


def question(token: str | None = None, value: str | None = None, **headers: str) -> list[Header]:
    """Return the headers of a question."""
    found = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    if token is not None:
        found.append((b"x-keeptrusts-gateway-token", token.encode()))
    if value is not None:
        found.append((b"authorization", b"Bearer " + value.encode()))
    return found


@contextmanager
def running_plane() -> Iterator[Plane]:
    """Start a data plane as a server does, by `lifespan`, and stop it afterwards: then all counts are written."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="data plane")
    thread.start()
    plane = Plane(DataPlane(), loop)
    told: list[str] = []
    try:
        to_plane: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

        async def send(message: Mapping[str, Any]) -> None:
            told.append(message["type"])

        living = asyncio.run_coroutine_threadsafe(plane.application({"type": "lifespan"}, to_plane.get, send), loop)
        loop.call_soon_threadsafe(to_plane.put_nowait, {"type": "lifespan.startup"})
        try:
            yield plane
        finally:
            loop.call_soon_threadsafe(to_plane.put_nowait, {"type": "lifespan.shutdown"})
            living.result(timeout=60)
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

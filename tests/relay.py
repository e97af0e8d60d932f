"""What lies between two servers: a relay that passes everything on, or fails in the ways in which networks do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.servers import free_port

UNDECIDED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nX-Keeptrusts-Reason: undecided\r\n"
UNDECIDED += b"Content-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Listens at `port` for whoever wants to reach `target`, both on loopback."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._mode = "passing"
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens."""
        self._run(self._close())
        try:
            yield
        finally:
            self._run(self._open())

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are taken, and nothing is ever said."""
        with self._as("silent"):
            yield

    @contextmanager
    def undecided(self) -> Iterator[None]:
        """Every question is answered 503, as Keeptrusts does while its database is away."""
        with self._as("undecided"):
            yield

    @contextmanager
    def refusing_reports(self) -> Iterator[None]:
        """Questions pass, and whoever posts is hung up on."""
        with self._as("refusing_reports"):
            yield

    @contextmanager
    def running(self) -> Iterator[Relay]:
        thread = threading.Thread(target=self._loop.run_forever, name="relay")
        thread.start()
        try:
            self._run(self._open())
            yield self
            self._run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    @contextmanager
    def _as(self, mode: str) -> Iterator[None]:
        self._run(self._become(mode))
        try:
            yield
        finally:
            self._run(self._become("passing"))

    async def _become(self, mode: str) -> None:
        self._mode = mode
        await self._hang_up()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        await self._hang_up()
        await self._server.wait_closed()

    async def _hang_up(self) -> None:
        for link in self._links:
            link.transport.abort()
        await asyncio.gather(*self._tasks)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._links.add(writer)
        ways = {
            "passing": self._pass,
            "silent": self._listen,
            "undecided": self._answer,
            "refusing_reports": self._pass_questions,
        }
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await ways[self._mode](reader, writer)
        writer.transport.abort()
        self._links.discard(writer)
        self._tasks.discard(task)

    async def _pass_questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin = await reader.readexactly(4)
        if begin != b"POST":
            await self._pass(reader, writer, begin)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin: bytes = b"") -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._links.add(back)
        back.write(begin)
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            back.transport.abort()
            self._links.discard(back)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UNDECIDED)
        await writer.drain()

    def _run(self, doing: object) -> None:
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(timeout=15)  # type: ignore[arg-type]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()

"""What stands behind a gateway: an application that tells what it received, and an authorize that a test scripts."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

# Seconds; how long a test may leave a stream waiting for its next piece.
PATIENCE = 30


@dataclass
class Seen:
    """One request as the application received it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return every value of the header, also of what only looks like it."""
        return [value for other, value in self.headers if other.lower().replace("_", "-") == name.lower()]


class Server(ThreadingHTTPServer):
    """Answers on threads; a request that fails is the test's business, which sees that its answer is missing."""

    daemon_threads = True

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Application(Server):
    """Tells what it received as JSON.

    /answer/<status>   answers with this status
    /pieces            answers piece by piece, as the test puts them into `pieces`; None ends it
    /upload            puts each piece of the request's body into `uploaded` as it comes; None ends it
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Application)
        self.seen: list[Seen] = []
        self.pieces: queue.Queue[bytes | None] = queue.Queue()
        self.uploaded: queue.Queue[bytes | None] = queue.Queue()

    def last(self, target: str) -> Seen | None:
        """Return the last request for this target; None if it never came so far."""
        return next((seen for seen in reversed(self.seen) if seen.target == target), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Pieces leave at once.
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def body(self) -> Iterator[bytes]:
        """Yield the body of the request in the pieces in which it comes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read1(left)):
            left -= len(piece)
            yield piece

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Application(_Handler):
    server: Application

    def handle_any(self) -> None:
        seen = Seen(self.command, self.path, list(self.headers.items()))
        self.server.seen.append(seen)
        for piece in self.body():
            seen.body += piece
            if self.path.startswith("/upload"):
                self.server.uploaded.put(piece)
        if self.path.startswith("/upload"):
            self.server.uploaded.put(None)
        if self.path.startswith("/pieces"):
            return self._in_pieces()
        status = int(self.path.partition("?")[0].split("/")[2]) if self.path.startswith("/answer/") else 200
        told = {"target": seen.target, "method": seen.method, "headers": seen.headers, "body": len(seen.body)}
        # An application that claims to know the key: the gateway knows better.
        headers = {"Content-Type": "application/json", "X-Keeptrusts-Key-Id": "forged by the application"}
        return self.answer(status, headers, json.dumps(told).encode())

    def _in_pieces(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := self.server.pieces.get(timeout=PATIENCE):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any


@dataclass
class Script:
    """What the scripted authorize answers; hangs: not before the test is over."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hangs: bool = False


class Scripted(Server):
    """An authorize that answers what the test has put into `script`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.script = Script()
        self.over = threading.Event()


class _Scripted(_Handler):
    server: Scripted
    allowing: ClassVar = {
        "X-Keeptrusts-Key-Id": "00000000-0000-0000-0000-000000000001",
        "X-Keeptrusts-Key-Version": "1",
        "X-Keeptrusts-Consumer-Group": "*",
        "X-Keeptrusts-Decision-Id": "d" * 32,
    }

    def handle_any(self) -> None:
        script = self.server.script
        if script.hangs:
            self.server.over.wait()
            self.close_connection = True
            return
        headers = {**(self.allowing if script.status < 300 else {}), **script.headers}
        self.answer(script.status, headers, script.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any


@contextmanager
def serving[S: Server](server: S) -> Iterator[S]:
    """Serve for the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        if isinstance(server, Scripted):
            server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def refusing_port() -> Iterator[int]:
    """Give a port that refuses connections for the block: it is taken, and nobody listens at it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])

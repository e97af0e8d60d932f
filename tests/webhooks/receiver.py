"""A server on the loopback that receives notices, as well or as badly as a test wants it to."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

type Manner = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Receiver:
    """What has come, and how it is answered. taken: (headers, body) of each request, refused ones too."""

    url: str = ""
    manner: Manner = field(default_factory=lambda: answering(204))
    taken: list[tuple[dict[str, str], str]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.taken]


def answering(status: int, body: bytes = b"", **headers: str) -> Manner:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def hanging(request: BaseHTTPRequestHandler) -> None:
    """Say nothing, for longer than anybody waits."""
    time.sleep(8)


def resetting(request: BaseHTTPRequestHandler) -> None:
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def dripping(request: BaseHTTPRequestHandler) -> None:
    """Send a header that never ends, a byte at a time: no single read takes long."""
    _trickle(request, b"HTTP/1.1 200 OK\r\nX-Long: ", b"x", 0.2)


def endless_header(request: BaseHTTPRequestHandler) -> None:
    _trickle(request, b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 4_000 + b"\r\n", 0)


def endless_body(request: BaseHTTPRequestHandler) -> None:
    _trickle(request, b"HTTP/1.1 500 Oh\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 65_536, 0)


def _trickle(request: BaseHTTPRequestHandler, first: bytes, then: bytes, pause: float) -> None:
    try:
        request.wfile.write(first)
        until = time.monotonic() + 8
        while time.monotonic() < until:
            request.wfile.write(then)
            request.wfile.flush()
            time.sleep(pause)
    except OSError:
        pass  # the sender has had enough


@contextmanager
def receiving(manner: Manner | None = None) -> Iterator[Receiver]:
    """Receive at `receiver.url` for the block."""
    receiver = Receiver()
    if manner is not None:
        receiver.manner = manner

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.close_connection = True
            receiver.manner(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a connection that was cut, which is the test's own doing

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/notices"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()

"""A proxy on loopback that passes every request on, and loses as many of the answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding"}


class LosingProxy(ThreadingHTTPServer):
    """to_lose: how many answers to a POST will not arrive. Of every other one half arrives, of the rest nothing."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.to_lose = 0
        self.lost: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[LosingProxy]:
        thread = threading.Thread(target=self.serve_forever, name="losing proxy")
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LosingProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        answer = httpx.post(self.server.target + self.path, content=body, headers=sent, timeout=30)
        content = answer.content
        if self.server.to_lose:
            self.server.to_lose -= 1
            self.server.lost.append(answer.text)
            if len(self.server.lost) % 2:
                return
            content = content[: len(content) // 2]
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

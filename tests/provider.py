"""An AI provider on loopback that speaks OpenAI's chat completions, and does what the name of the model says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Provider(ThreadingHTTPServer):
    """seen: every request as it came, headers and body; go_on: what the model `hangs` waits for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Chat)
        self.seen: list[str] = []
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is part of what is tested."""


class Chat(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(f"{self.path}\n{self.headers}\n{body.decode()}")
        asked = json.loads(body)
        if asked["model"].startswith("fails-"):
            self._whole(int(asked["model"].removeprefix("fails-")), {"error": {"message": "no", "type": "made up"}})
        elif asked.get("stream"):
            self._stream(asked["model"])
        else:
            if asked["model"] == "hangs":
                self.server.go_on.wait(60)
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
            self._whole(200, {**_shared(asked["model"]), "choices": [choice], "usage": USAGE})

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self._piece({**_shared(model), "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]})
        if model == "breaks":
            self._piece({"error": {"message": "out of service", "type": "server_error", "code": "503"}})
            return
        if model == "hangs":
            self.server.go_on.wait(60)
        end = {"index": 0, "delta": {"content": "lo."}, "finish_reason": "stop"}
        self._piece({**_shared(model), "choices": [end]})
        self._piece({**_shared(model), "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _piece(self, content: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()


def _shared(model: str) -> dict[str, Any]:
    return {"id": "chat-1", "object": "chat.completion", "created": 1, "model": model}


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        provider.go_on.set()
        provider.shutdown()
        thread.join()
        provider.server_close()

"""An AI provider on loopback: OpenAI's chat completions, which do what the name of the model says, OpenAI's responses,
and Anthropic's messages as a stream.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COUNTED = {"input_tokens": 11, "output_tokens": 7}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Provider(ThreadingHTTPServer):
    """seen: every request as it came, headers and body; go_on: what the model `hangs` waits for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Chat)
        self.seen: list[str] = []
        self.go_on = threading.Event()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is part of what is tested."""


class Chat(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(f"{self.path}\n{self.headers}\n{body.decode()}")
        asked = json.loads(body)
        if self.path.endswith("/responses"):
            return self._response(asked)
        if self.path.endswith("/messages"):
            return self._events(_message(asked["model"]))
        if asked["model"].startswith("fails-"):
            self._whole(int(asked["model"].removeprefix("fails-")), {"error": {"message": "no", "type": "made up"}})
        elif asked.get("stream"):
            self._stream(asked["model"])
        else:
            if asked["model"] == "hangs":
                self.server.go_on.wait(60)
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
            self._whole(200, {**_shared(asked["model"]), "choices": [choice], "usage": USAGE})
        return None

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _response(self, asked: dict[str, Any]) -> None:
        content = [{"type": "output_text", "text": "Hello.", "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        begun = {"id": "resp_1", "object": "response", "created_at": 1, "model": asked["model"], "output": []}
        whole = {**begun, "status": "completed", "output": [item], "usage": COUNTED | {"total_tokens": 18}}
        if not asked.get("stream"):
            return self._whole(200, whole)
        delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Hello."}
        return self._events(
            [
                {"type": "response.created", "response": {**begun, "status": "in_progress"}},
                {"type": "response.output_text.delta", **delta},
                {"type": "response.completed", "response": whole},
            ]
        )

    def _events(self, events: list[dict[str, Any]]) -> None:
        self._begin_stream()
        for number, event in enumerate(events):
            self.wfile.write(f"event: {event['type']}\n".encode())
            self._piece({"sequence_number": number, **event})

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def _stream(self, model: str) -> None:
        self._begin_stream()
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


def _message(model: str) -> list[dict[str, Any]]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    begun = {**message, "stop_reason": None, "stop_sequence": None, "usage": COUNTED | {"output_tokens": 1}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": COUNTED},
        {"type": "message_stop"},
    ]


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

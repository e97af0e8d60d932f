"""What the benchmark of ingest sends: batches of made-up events, the same for the same number."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

BATCH: Final = 1_000
# Numbers of batches from here on are sent by every replaying sender.
FIRST_REPLAYED: Final = 1_000_000
USAGE: Final = "/gateway/v1/usage"
MODELS: Final = ("gpt-4.1", "gpt-4.1-mini", "claude-sonnet-4")
STATUSES: Final = (200,) * 18 + (429, 500)


@dataclass(frozen=True)
class Events:
    """Makes batches of events with everything that can be said, of these keys and the minute before `until`."""

    key_ids: Sequence[str]
    until: datetime

    def batch(self, number: int) -> list[dict[str, Any]]:
        source = random.Random(number)
        return [self._event(source) for _ in range(BATCH)]

    def body(self, number: int, *, backwards: bool = False) -> bytes:
        events = self.batch(number)
        return orjson.dumps({"events": events[::-1] if backwards else events})

    def _event(self, source: random.Random) -> dict[str, Any]:
        occurred_at = self.until - timedelta(seconds=source.random() * 60)
        return {
            "id": f"{source.getrandbits(128):032x}",
            "occurred_at": occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "key_id": source.choice(self.key_ids),
            "key_version": 1,
            "decision_id": f"{source.getrandbits(128):032x}",
            "status": source.choice(STATUSES),
            "latency_ms": source.randint(1, 3_000),
            "method": "POST",
            "path": "/v1/chat/completions",
            "client_ip": f"10.0.{source.randint(0, 20)}.{source.randint(1, 250)}",
            "provider": "openai",
            "model": source.choice(MODELS),
            "operation": "chat",
            "input_tokens": source.randint(1, 5_000),
            "output_tokens": source.randint(1, 900),
            "cost": round(source.random() / 100, 6),
        }


# Seconds until a batch that was not taken is sent again.
TRY_AGAIN: Final = 0.1


class Sender:
    """A gateway's connection. It keeps its batch until it is told that the batch was taken."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"X-Keeptrusts-Gateway-Token": token, "Content-Type": "application/json"}
        self._connection = self._connected()

    def send(self, body: bytes) -> dict[str, int] | None:
        """Send a batch once; None where it was not taken, or nobody knows whether it was."""
        try:
            self._connection.request("POST", USAGE, body, self._headers)
            answer = self._connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = self._connected()
            return None
        if answer.status == 503:
            return None
        if answer.status != 200:
            raise RuntimeError(f"a batch was refused: {answer.status} {told[:200]!r}")
        taken: dict[str, int] = json.loads(told)
        if taken["rejected"]:
            raise RuntimeError(f"events were rejected: {told[:300]!r}")
        return taken

    def close(self) -> None:
        self._connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)


class Replayer(threading.Thread):
    """Sends every batch from FIRST_REPLAYED on, again and again until it is taken, in an order of its own."""

    WINDOW: Final = 4

    def __init__(self, number: int, sender: Sender, events: Events, ended: threading.Event) -> None:
        super().__init__(name=f"sender {number}")
        self.reached = FIRST_REPLAYED
        self.sent = 0
        self.unanswered = 0
        self.failure: Exception | None = None
        self._order = random.Random(number)
        self._backwards = bool(number % 2)
        self._sender, self._events, self._ended = sender, events, ended

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self.send_until(self.reached + self.WINDOW)
        except Exception as error:
            self.failure = error

    def send_until(self, end: int) -> None:
        """Send the batches below `end` that it has not sent yet."""
        numbers = list(range(self.reached, end))
        self._order.shuffle(numbers)
        for number in numbers:
            body = self._events.body(number, backwards=self._backwards)
            while self._sender.send(body) is None:
                self.unanswered += 1
                time.sleep(TRY_AGAIN)
            self.sent += 1
        self.reached = max(self.reached, end)

    def close(self) -> None:
        self._sender.close()

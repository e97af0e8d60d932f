"""What the door says of streams whose client leaves: with the last words, and before. Runs in LiteLLM's environment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from keeptrusts_litellm import Call, Door


class Remembered:
    """A spool that keeps what it is given."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def served(self, call: Call) -> None:
        self.statuses.append(call.event()["status"])


async def stream(words: bytes, spool: Remembered) -> None:
    """Serve a stream that sends these words, and ends when the client is gone."""
    left = asyncio.Event()

    async def receive() -> Mapping[str, Any]:
        if not asked.pop():
            await left.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request"}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            left.set()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        call: Call = scope["state"]["keeptrusts"]
        call.decision_id, call.key_version = "decision", "1"
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": words, "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    asked = [False, True]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    await Door(application, spool)(scope, receive, send)


async def main() -> None:
    spool = Remembered()
    await stream(b"data: [DONE]\n\n", spool)
    await stream(b'data: {"choices": []}\n\n', spool)
    print(*spool.statuses)


asyncio.run(main())

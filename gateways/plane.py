"""The data plane: which path is answered by what, and its start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from inspect import markcoroutinefunction
from typing import Any, Final

from gateways.answers import Receive, Scope, Send, new_decision_id, send_problem
from gateways.authorize import PATH as AUTHORIZE
from gateways.authorize import authorize
from gateways.engine import Engine
from gateways.introspection import introspect
from gateways.reporting import take_usage

BELOW_AUTHORIZE: Final = AUTHORIZE + "/"
POSTS: Final = {"/gateway/v1/usage": take_usage, "/gateway/v1/introspect": introspect}


class DataPlane:
    """A plain ASGI application beside Django: no middleware, no routing, no host names."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    # Not a coroutine, but gives the one that it chooses: to make one more would cost every request.
    @markcoroutinefunction
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        kind = scope["type"]
        if kind == "http":
            path: str = scope["path"]
            if path == AUTHORIZE or path.startswith(BELOW_AUTHORIZE):
                return authorize(self._running(), scope, send)
            return self._answer(path, scope, receive, send)
        return self._live(receive, send) if kind == "lifespan" else _close(send)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        decision_id = new_decision_id()
        post = POSTS.get(path)
        if post is None:
            return await send_problem(send, 404, "not_found", "There is nothing here.", decision_id)
        if scope["method"] != "POST":
            return await send_problem(send, 405, "method_not_allowed", "Use POST.", decision_id, (b"allow", b"POST"))
        return await post(self._running(), scope, receive, send, decision_id)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._running()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.close()
                return await send({"type": "lifespan.shutdown.complete"})

    def _running(self) -> Engine:
        """Return the engine of this event loop; a server that knows no `lifespan` starts it with its first request."""
        engine = self._engine
        if engine is None or engine.loop is not asyncio.get_running_loop():
            engine = self._engine = Engine()
        return engine

    async def close(self) -> None:
        """Write what is counted and let go of threads and connections."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()


async def _close(send: Send) -> None:
    """Refuse a websocket, which nothing here is: closed before it is accepted, the server answers 403."""
    await send({"type": "websocket.close", "code": 1008})

"""What watches this process asks here, beside Django: no host name is checked, nothing is redirected, no session made.

/healthz   the process answers; nothing else is asked
/readyz    what it needs is there, and the jobs run: 200, else 503; `?exclude=redis,beat` leaves checks out
/metrics   Prometheus' metrics; 404 unless they are switched on (KEEPTRUSTS_METRICS_TOKEN, …_LOOPBACK)
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from django.conf import settings

from operations import metrics
from operations.processes import Publisher
from operations.readiness import NAMES, Readiness

type Scope = Mapping[str, Any]
type Receive = Callable[[], Awaitable[Mapping[str, Any]]]
type Send = Callable[[Mapping[str, Any]], Awaitable[None]]
type Header = tuple[bytes, bytes]

HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"
PATHS: Final = frozenset({HEALTH, READY, METRICS})
# Whoever sends one of these stands before the one who asks: a caller on this host it is not.
FORWARDED: Final = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})

_COMMON: Final = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Operations:
    """A plain ASGI application for PATHS."""

    def __init__(self) -> None:
        self._readiness: Readiness | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: Publisher | None = None

    def start(self) -> None:
        """Let the other web processes of this host see what this one counts, where somebody may ask for it."""
        if self._publisher is None and _metrics_are_on():
            self._publisher = Publisher()
            self._publisher.start()

    async def close(self) -> None:
        """Let go of threads and connections."""
        readiness, self._readiness, self._loop = self._readiness, None, None
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.stop()
        if readiness is not None:
            await readiness.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["method"] not in {"GET", "HEAD"}:
            return await _send_json(send, 405, {"status": "method not allowed"}, (b"allow", b"GET, HEAD"))
        match scope["path"]:
            case "/healthz":
                return await _send_json(send, 200, {"status": "alive"})
            case "/readyz":
                return await self._ready(scope, send)
            case _:
                return await self._metrics(scope, send)

    async def _ready(self, scope: Scope, send: Send) -> None:
        exclude = _excluded(scope["query_string"])
        if unknown := exclude - set(NAMES):
            said = {"status": "bad request", "unknown": len(unknown), "checks": list(NAMES)}
            return await _send_json(send, 400, said)
        checks = await self._own_readiness().checks(exclude)
        ready = all(check.is_well for check in checks.values())
        said = {
            "status": "ready" if ready else "not ready",
            "checks": {name: check.as_json() for name, check in checks.items()},
        }
        return await _send_json(send, 200 if ready else 503, said)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        if not _metrics_are_on() or not (_shows_token(scope) or _is_local(scope)):
            return await _send_json(send, 404, {"status": "not found"})
        self.start()
        text = await metrics.exposition(self._own_readiness())
        return await _send(send, 200, metrics.CONTENT_TYPE.encode(), text)

    def _own_readiness(self) -> Readiness:
        """Return what asks on this event loop."""
        if self._readiness is None or self._loop is not asyncio.get_running_loop():
            self._readiness, self._loop = Readiness(), asyncio.get_running_loop()
        return self._readiness


application = Operations()


def _metrics_are_on() -> bool:
    return bool(settings.KEEPTRUSTS_METRICS_TOKEN or settings.KEEPTRUSTS_METRICS_LOOPBACK)


def _shows_token(scope: Scope) -> bool:
    token: str = settings.KEEPTRUSTS_METRICS_TOKEN
    shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, value = shown.partition(b" ")
    return bool(token) and scheme.lower() == b"bearer" and hmac.compare_digest(value.strip(), token.encode())


def _is_local(scope: Scope) -> bool:
    if not settings.KEEPTRUSTS_METRICS_LOOPBACK or any(name in FORWARDED for name, _ in scope["headers"]):
        return False
    host, *_ = scope.get("client") or ("",)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _excluded(query: bytes) -> set[str]:
    given = parse_qs(query.decode("latin-1")).get("exclude", [])
    return {name for names in given for name in names.split(",") if name}


async def _send_json(send: Send, status: int, content: object, *more: Header) -> None:
    await _send(send, status, b"application/json", orjson.dumps(content), *more)


async def _send(send: Send, status: int, content_type: bytes, body: bytes, *more: Header) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *_COMMON, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

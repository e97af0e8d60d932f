"""Before Django: an id for every request, and no body that is too long or never comes to its end.

Django reads a whole body to a file before anything of ours is asked, however long it is and however slowly it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from django.conf import settings

from keeptrusts.errors import BODY_TOO_LARGE, BODY_TOO_SLOW, Trouble, as_http
from keeptrusts.request_ids import HEADER, enter_request

type Scope = dict[str, Any]
type Receive = Callable[[], Awaitable[Mapping[str, Any]]]
type Send = Callable[[Mapping[str, Any]], Awaitable[None]]
type Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# From its first byte to its last: a megabyte in this time is less than the slowest line.
BODY_SECONDS: Final = 30.0
# Of the answers that Django has no part in.
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"connection", b"close"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class BodyRefused(Exception):
    """There will be no whole body."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.code)
        self.trouble = trouble


class Door:
    """An ASGI application around Django's."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        request_id = enter_request(scope, is_trusted=bool(settings.TRUSTED_PROXIES))

        async def send_with_id(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request_id.encode())]}
            await send(message)

        try:
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            await self._application(scope, _limited(receive, _declared(scope), limit), send_with_id)
        except BodyRefused as refused:
            await _answer(scope, send_with_id, refused.trouble)
        return None


def _declared(scope: Scope) -> int:
    """Return the length that the request says its body has; 0 where it says none."""
    found = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(found) if found.isdigit() and len(found) < 19 else 0


def _limited(receive: Receive, declared: int, limit: int) -> Receive:
    """Return `receive`, which raises BodyRefused for a body above `limit` bytes, or one that takes too long."""
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    taken, whole = 0, False

    async def receive_limited() -> Mapping[str, Any]:
        nonlocal taken, whole
        if whole:  # what comes now is that the caller has gone, whenever that is
            return await receive()
        if declared > limit:
            raise BodyRefused(BODY_TOO_LARGE)
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise BodyRefused(BODY_TOO_SLOW) from None
        taken += len(message.get("body", b""))
        if taken > limit:
            raise BodyRefused(BODY_TOO_LARGE)
        whole = not message.get("more_body", False)
        return message

    return receive_limited


async def _answer(scope: Scope, send: Send, trouble: Trouble) -> None:
    content_type, body = as_http(scope["path"], trouble)
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *_HEADERS]
    await send({"type": "http.response.start", "status": trouble.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

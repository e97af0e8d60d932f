"""Bodies of requests, read no further than they may be long."""

from __future__ import annotations

import asyncio
from typing import Final

from gateways.answers import Receive, Scope

# From the first byte to the last: 5 MiB of usage from the far end of a slow line.
BODY_SECONDS: Final = 60.0


class BodyTooLarge(Exception):
    """There is more than may be; what was read is dropped."""


class BodyTooSlow(Exception):
    """It did not end in time; what was read is dropped."""


class SenderGone(Exception):
    """The sender hung up before the end of the body: there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """Return the whole body. limit: bytes. Errors: BodyTooLarge, BodyTooSlow, SenderGone."""
    declared = header(scope, b"content-length") or b""
    # A length that is too large need not be waited for; isdigit() of bytes is ASCII alone.
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise BodyTooLarge
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, limit)
    except TimeoutError:
        raise BodyTooSlow from None


async def _read(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise SenderGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the last header of this name (lower case), None where there is none."""
    found: bytes | None = None
    for other, value in scope["headers"]:
        if other == name:
            found = value
    return found


def content_type(scope: Scope) -> bytes:
    """Return the media type alone, in lower case and without parameters; empty where none is stated."""
    return (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()

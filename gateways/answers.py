"""Statuses and headers that gateways get to see (design §8). Nothing of what was asked is echoed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from gateways.decision import KnownVersion, Reason, status_of

type Header = tuple[bytes, bytes]
type Scope = Mapping[str, Any]
type Receive = Callable[[], Awaitable[Mapping[str, Any]]]
type Send = Callable[[Mapping[str, Any]], Awaitable[None]]

NO_STORE: Final = (b"cache-control", b"no-store")
RETRY_AFTER: Final = (b"retry-after", b"1")
ANY_GROUP: Final = b"*"
_EMPTY: Final = (b"content-length", b"0")
_JSON: Final = (b"content-type", b"application/json")
_ANY_GROUP: Final = (b"x-keeptrusts-consumer-group", ANY_GROUP)
NO_BODY: Final = {"type": "http.response.body", "body": b""}

_REALM: Final = 'Bearer realm="keeptrusts"'
# RFC 6750 §3.1: without a key a bare challenge; else the error and what to tell a developer.
_CHALLENGES: Final = {
    Reason.KEY_MISSING: _REALM,
    Reason.KEY_MALFORMED: f'{_REALM}, error="invalid_token", error_description="The key is malformed"',
    Reason.KEY_UNKNOWN: f'{_REALM}, error="invalid_token", error_description="The key is unknown"',
    Reason.KEY_REVOKED: f'{_REALM}, error="invalid_token", error_description="The key was revoked"',
    Reason.KEY_EXPIRED: f'{_REALM}, error="invalid_token", error_description="The key has expired"',
    Reason.KEY_DISABLED: f'{_REALM}, error="invalid_token", error_description="The key is disabled"',
    Reason.GRACE_OVER: f'{_REALM}, error="invalid_token", error_description="The key was rotated, its grace is over"',
    Reason.GATEWAY_NOT_ALLOWED: (
        f'{_REALM}, error="insufficient_scope", error_description="The key is not for this gateway"'
    ),
    Reason.GROUP_MISMATCH: (
        f'{_REALM}, error="insufficient_scope", error_description="The key is for another consumer group"'
    ),
    Reason.NETWORK_NOT_ALLOWED: (
        f'{_REALM}, error="insufficient_scope", error_description="The key is not for this network"'
    ),
}


def refusal_headers(reason: Reason) -> list[Header]:
    """Return what a refusal carries for its reason, beside what every answer carries."""
    headers = [(b"x-keeptrusts-reason", reason.encode())]
    if reason in _CHALLENGES:
        headers.append((b"www-authenticate", _CHALLENGES[reason].encode()))
    if reason is Reason.UNDECIDED:
        headers.append(RETRY_AFTER)
    return headers


_REFUSALS: Final = {reason: (status_of(reason), [*refusal_headers(reason), NO_STORE, _EMPTY]) for reason in Reason}

_STOCK: Final = 256
_unused_ids: list[bytes] = []
# What a process has in stock, its child must not give out again.
os.register_at_fork(after_in_child=_unused_ids.clear)


def new_decision_id() -> bytes:
    """Return what a decision is found again by: 32 random hexadecimal characters."""
    try:
        return _unused_ids.pop()
    except IndexError:
        # Many from one system call, which takes longer than all else that makes an id.
        digits = os.urandom(_STOCK * 16).hex().encode()
        new, *stock = (digits[start : start + 32] for start in range(0, len(digits), 32))
        _unused_ids.extend(stock)
        return new


def allowed(version: KnownVersion, decision_id: bytes) -> Mapping[str, Any]:
    """Return the start of exactly 200, the one thing that all gateways take for a yes; NO_BODY is the rest of it.

    Its headers are always all there, and never empty.
    """
    key = version.key
    headers = [
        (b"x-keeptrusts-key-id", key.public_id),
        _number_header(version.number),
        _group_header(key.group.slug) if key.group is not None else _ANY_GROUP,
        (b"x-keeptrusts-decision-id", decision_id),
        NO_STORE,
        _EMPTY,
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def send_refusal(send: Send, reason: Reason, decision_id: bytes) -> None:
    """Answer no, with an empty body: some gateways show it to their clients."""
    status, headers = _REFUSALS[reason]
    headers = [*headers, (b"x-keeptrusts-decision-id", decision_id)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(NO_BODY)


async def send_json(send: Send, status: int, content: object, decision_id: bytes, *more: Header) -> None:
    """Answer with JSON."""
    body = orjson.dumps(content)
    headers = [
        _JSON,
        (b"content-length", b"%d" % len(body)),
        NO_STORE,
        (b"x-keeptrusts-decision-id", decision_id),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, status: int, code: str, detail: str, decision_id: bytes, *more: Header) -> None:
    """Answer why not, with a code for machines and a detail for people."""
    await send_json(send, status, {"code": code, "detail": detail}, decision_id, *more)


@lru_cache(maxsize=1_024)
def _number_header(number: int) -> Header:
    return (b"x-keeptrusts-key-version", b"%d" % number)


@lru_cache(maxsize=1_024)
def _group_header(slug: str) -> Header:
    return (b"x-keeptrusts-consumer-group", slug.encode())

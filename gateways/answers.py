"""Statuses and headers that gateways get to see (design §8). Nothing of what was asked is echoed."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
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
_NO_BODY: Final = {"type": "http.response.body", "body": b""}

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


def new_decision_id() -> str:
    """Return what a decision is found again by: 32 random hexadecimal characters."""
    return secrets.token_hex(16)


async def send_allowed(send: Send, version: KnownVersion, decision_id: str) -> None:
    """Answer exactly 200 with an empty body, the one thing that all gateways take for a yes."""
    key = version.key
    headers = [
        (b"x-keeptrusts-key-id", str(key.id).encode()),
        (b"x-keeptrusts-key-version", b"%d" % version.number),
        (b"x-keeptrusts-consumer-group", key.group.slug.encode() if key.group is not None else ANY_GROUP),
        (b"x-keeptrusts-decision-id", decision_id.encode()),
        NO_STORE,
        _EMPTY,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(_NO_BODY)


async def send_refusal(send: Send, reason: Reason, decision_id: str) -> None:
    """Answer no, with an empty body: some gateways show it to their clients."""
    status, headers = _REFUSALS[reason]
    headers = [*headers, (b"x-keeptrusts-decision-id", decision_id.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(_NO_BODY)


async def send_json(send: Send, status: int, content: object, decision_id: str, *more: Header) -> None:
    """Answer with JSON."""
    body = orjson.dumps(content)
    headers = [
        _JSON,
        (b"content-length", b"%d" % len(body)),
        NO_STORE,
        (b"x-keeptrusts-decision-id", decision_id.encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, status: int, code: str, detail: str, decision_id: str, *more: Header) -> None:
    """Answer why not, with a code for machines and a detail for people."""
    await send_json(send, status, {"code": code, "detail": detail}, decision_id, *more)

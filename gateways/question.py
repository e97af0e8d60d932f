"""How a gateway's question is read from the headers of its request: any bytes, never an exception.

A value exists here only until it is digested; what leaves is a `Question`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from access import tokens
from access.tokens import TokenKind
from gateways.decision import Question, Reason

AUTHORIZATION: Final = b"authorization"
TOKEN_HEADER: Final = b"x-keeptrusts-gateway-token"
GROUP: Final = b"x-keeptrusts-consumer-group"
CLIENT_IP: Final = b"x-keeptrusts-client-ip"
FORWARDED_FOR: Final = b"x-forwarded-for"

type Headers = Sequence[tuple[bytes, bytes]]


def read_question(headers: Headers) -> Question:
    """Return what `authorize` is asked; header names in lower case, as ASGI gives them."""
    # Of headers that came more than once it keeps the last.
    told = dict(headers)
    if len(told) < len(headers):
        _tell_all(told, headers)
    question = Question(
        token_digest(told.get(TOKEN_HEADER), TokenKind.GATEWAY_TOKEN), _presented_key(told.get(AUTHORIZATION))
    )
    if GROUP in told:
        question.group = _text(told[GROUP]) or None
    if CLIENT_IP in told:
        question.client_ip = _text(told[CLIENT_IP])
    if FORWARDED_FOR in told:
        # Every hop adds at the end, in a header of its own or in the last one: the last word is our gateway's.
        question.forwarded_for = _text(told[FORWARDED_FOR].rpartition(b",")[2])
    return question


def token_digest(value: bytes | None, kind: TokenKind) -> bytes | None:
    """Return the digest to look up; None for what has not the shape and checksum of this kind, or is not there."""
    return tokens.digest_of(value.strip(b" \t"), kind) if value is not None else None


def bearer(authorization: bytes) -> bytes | None:
    """Return the credentials of `Bearer` (the scheme in any case, RFC 9110 §11.1); None under another or without."""
    if authorization[:7] == b"Bearer ":  # as nearly everybody writes it
        credentials = authorization[7:]
    else:
        scheme, _, credentials = authorization.strip(b" \t").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
    return credentials.strip(b" \t") or None


def _presented_key(authorization: bytes | None) -> bytes | Reason:
    credentials = bearer(authorization) if authorization is not None else None
    if credentials is None:
        return Reason.KEY_MISSING
    return token_digest(credentials, TokenKind.GATEWAY_KEY) or Reason.KEY_MALFORMED


def _tell_all(told: dict[bytes, bytes], headers: Headers) -> None:
    """Put together what came more than once: two of one kind are one too many to say which is meant.

    Joined they are neither; credentials, of whatever schemes, are a malformed key.
    """
    for name, before in ((AUTHORIZATION, b"Bearer "), (TOKEN_HEADER, b""), (GROUP, b""), (CLIENT_IP, b"")):
        values = [value for other, value in headers if other == name]
        if len(values) > 1:
            told[name] = before + b",".join(values)


def _text(value: bytes) -> str:
    # Every byte is a character of Latin-1; what matters here is ASCII, and the rest equals nothing of it.
    return value.decode("latin-1").strip(" \t")

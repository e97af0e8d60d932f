"""How a gateway's question is read from the headers of its request: any bytes, never an exception.

A value exists here only until it is digested; what leaves is a `Question`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from access import tokens
from access.tokens import TokenKind
from gateways.decision import Question, Reason

TOKEN_HEADER: Final = b"x-keeptrusts-gateway-token"

type Headers = Iterable[tuple[bytes, bytes]]


def read_question(headers: Headers) -> Question:
    """Return what `authorize` is asked; header names in lower case, as ASGI gives them."""
    authorization: list[bytes] = []
    token: bytes | None = None
    groups: list[bytes] = []
    client_ip: bytes | None = None
    forwarded: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            authorization.append(value)
        elif name == TOKEN_HEADER:
            # Two of one kind are one too many to say which is meant: joined, they are neither.
            token = value if token is None else token + b"," + value
        elif name == b"x-keeptrusts-consumer-group":
            groups.append(value)
        elif name == b"x-keeptrusts-client-ip":
            client_ip = value if client_ip is None else client_ip + b"," + value
        elif name == b"x-forwarded-for":
            # Every hop adds at the end, in a header of its own or in the last one: the last word is our gateway's.
            forwarded = value
    return Question(
        gateway_token=token_digest(token, TokenKind.GATEWAY_TOKEN),
        key=_presented_key(authorization),
        group=_text(b",".join(groups)) or None,
        client_ip=_text(client_ip),
        forwarded_for=_text(forwarded.rpartition(b",")[2]) if forwarded is not None else None,
    )


def token_digest(value: bytes | None, kind: TokenKind) -> bytes | None:
    """Return the digest to look up; None for what has not the shape and checksum of this kind, or is not there."""
    text = _text(value)
    return tokens.digest(text) if text and tokens.is_well_formed(text, kind) else None


def bearer(authorization: bytes) -> bytes | None:
    """Return the credentials of `Bearer` (the scheme in any case, RFC 9110 §11.1); None under another or without."""
    scheme, _, credentials = authorization.strip(b" \t").partition(b" ")
    return credentials.strip(b" \t") or None if scheme.lower() == b"bearer" else None


def _presented_key(authorization: list[bytes]) -> bytes | Reason:
    if len(authorization) > 1:
        return Reason.KEY_MALFORMED
    credentials = bearer(authorization[0]) if authorization else None
    if credentials is None:
        return Reason.KEY_MISSING
    return token_digest(credentials, TokenKind.GATEWAY_KEY) or Reason.KEY_MALFORMED


def _text(value: bytes | None) -> str | None:
    # Every byte is a character of Latin-1; what matters here is ASCII, and the rest equals nothing of it.
    return value.decode("latin-1").strip(" \t") if value is not None else None

"""POST /gateway/v1/introspect: RFC 7662, for clients that know nothing of our `authorize`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from access.tokens import TokenKind
from gateways.answers import ANY_GROUP, Receive, Scope, Send, refusal_headers, send_json, send_problem
from gateways.bodies import BodyTooLarge, BodyTooSlow, SenderGone, content_type, header, read_body
from gateways.decision import Decision, KnownVersion, Question, Reason
from gateways.engine import Engine
from gateways.question import bearer, read_question, token_digest

MOST_BYTES: Final = 64 * 1_024
MOST_FIELDS: Final = 100
INACTIVE: Final[dict[str, object]] = {"active": False}


class BadRequest(Exception):
    """The request is none that RFC 7662 §2.1 knows; the message says why."""


async def introspect(engine: Engine, scope: Scope, receive: Receive, send: Send, decision_id: bytes) -> None:
    """Answer whether the value in the form is usable here and now, and what it is (RFC 7662 §2.2).

    The checks are those of `authorize`, by the same headers: what would be refused there is inactive here, too.
    """

    async def refuse(status: int, reason: Reason, detail: str) -> None:
        await send_problem(send, status, reason, detail, decision_id, *refusal_headers(reason))

    try:
        question = _with_credentials(read_question(scope["headers"]), scope)
        if await engine.known_gateway(question.gateway_token) is None:
            return await refuse(403, Reason.GATEWAY_UNKNOWN, "The gateway token is missing or not accepted.")
        value = _token(scope, await read_body(scope, receive, limit=MOST_BYTES))
        key = token_digest(value, TokenKind.GATEWAY_KEY) or Reason.KEY_MALFORMED
        decision = await engine.decide(replace(question, key=key))
        content = _content(engine, decision)
    except SenderGone:
        return None
    except BodyTooLarge:
        return await _invalid(send, 413, f"At most {MOST_BYTES:,} bytes.", decision_id)
    except BodyTooSlow:
        return await _invalid(send, 408, "The body did not arrive in time.", decision_id)
    except BadRequest as bad:
        return await _invalid(send, 400, str(bad), decision_id)
    except Exception as error:
        engine.complain("introspect", error)
        return await refuse(503, Reason.UNDECIDED, "This cannot be decided now.")
    return await send_json(send, 200, content, decision_id)


def _with_credentials(question: Question, scope: Scope) -> Question:
    """Return the question with the gateway token of our header, or else as Bearer, or as the password of Basic."""
    if question.gateway_token is not None:
        return question
    authorization = header(scope, b"authorization") or b""
    value = bearer(authorization) or _password(authorization)
    return replace(question, gateway_token=token_digest(value, TokenKind.GATEWAY_TOKEN))


def _password(authorization: bytes) -> bytes | None:
    scheme, _, encoded = authorization.strip(b" \t").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(encoded.strip(b" \t"), validate=True).partition(b":")[2]
    except binascii.Error:
        return None


def _token(scope: Scope, body: bytes) -> bytes:
    """Return the form's `token`. Errors: BadRequest."""
    if content_type(scope) != b"application/x-www-form-urlencoded":
        raise BadRequest("The body must be a form (application/x-www-form-urlencoded).")
    try:
        # Latin-1 gives every byte back, whatever it was meant to be.
        fields = parse_qsl(body.decode("latin-1"), encoding="latin-1", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadRequest(f"At most {MOST_FIELDS} fields.") from error
    found = [value for name, value in fields if name == "token"]
    if len(found) != 1:
        raise BadRequest("The form must have the field token, once.")
    return found[0].encode("latin-1")


def _content(engine: Engine, decision: Decision) -> dict[str, object]:
    version = decision.version
    if not decision.allowed or version is None:
        return INACTIVE
    # No request is counted, for clients keep the answer for many; but the key is no idle one.
    engine.counter.used(at=decision.at, key_id=version.key.id, version_id=version.id)
    return _active(version)


def _active(version: KnownVersion) -> dict[str, object]:
    key = version.key
    group = key.group.slug if key.group is not None else ANY_GROUP.decode()
    ends = [end for end in (key.expires_at, version.valid_until) if end is not None]
    content: dict[str, object] = {
        "active": True,
        "client_id": str(key.id),
        "sub": str(key.id),
        "token_type": "Bearer",
        "scope": group,
        "iat": int(version.created_at.timestamp()),
        "keeptrusts_consumer_group": group,
        "keeptrusts_key_version": version.number,
    }
    if ends:
        content["exp"] = int(min(ends).timestamp())
    return content


async def _invalid(send: Send, status: int, detail: str, decision_id: bytes) -> None:
    """Answer as RFC 6749 §5.2 says, which is where RFC 7662 §2.3 sends its readers."""
    content = {"error": "invalid_request", "error_description": detail}
    await send_json(send, status, content, decision_id)

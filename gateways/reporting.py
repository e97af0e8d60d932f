"""POST /gateway/v1/usage: a gateway reports what it served (design §8)."""

from __future__ import annotations

from typing import Final

from access.tokens import TokenKind
from gateways.answers import Receive, Scope, Send, refusal_headers, send_json, send_problem
from gateways.bodies import BodyTooLarge, BodyTooSlow, SenderGone, content_type, header, read_body
from gateways.decision import Reason
from gateways.engine import Engine
from gateways.question import TOKEN_HEADER, token_digest
from gateways.telemetry import TELEMETRY
from usage.reports import UnreadableReport

MOST_BYTES: Final = 5 * 1_024 * 1_024
NDJSON: Final = frozenset({b"application/x-ndjson", b"application/ndjson"})


async def take_usage(engine: Engine, scope: Scope, receive: Receive, send: Send, decision_id: bytes) -> None:
    """Answer what became of each event, when all that was accepted is durable."""

    async def problem(status: int, code: str, detail: str) -> None:
        more = refusal_headers(Reason(code)) if code in Reason else []
        await send_problem(send, status, code, detail, decision_id, *more)

    try:
        gateway = await engine.known_gateway(token_digest(header(scope, TOKEN_HEADER), TokenKind.GATEWAY_TOKEN))
        if gateway is None:
            return await problem(403, "gateway_unknown", "The gateway token is missing or not accepted.")
        if gateway.counts_at_authorize:
            detail = "This gateway's requests are counted when it asks. To report them, set its usage source."
            return await problem(409, "counted_at_authorize", detail)
        if (header(scope, b"content-encoding") or b"identity").strip().lower() != b"identity":
            return await problem(415, "unsupported_encoding", "Send the body without a content encoding.")
        body = await read_body(scope, receive, limit=MOST_BYTES)
        receipt = await engine.take_report(gateway, body, lines=content_type(scope) in NDJSON)
        TELEMETRY.ingested(accepted=receipt.accepted, duplicates=receipt.duplicates, rejected=len(receipt.rejected))
    except SenderGone:
        return None
    except BodyTooLarge:
        return await problem(413, "body_too_large", f"At most {MOST_BYTES:,} bytes at once.")
    except BodyTooSlow:
        return await problem(408, "body_too_slow", "The body did not arrive in time. Send it again.")
    except UnreadableReport as unreadable:
        return await problem(unreadable.status, unreadable.code, unreadable.detail)
    except Exception as error:
        engine.complain("usage", error)
        return await problem(503, "undecided", "Nothing was taken. Send the same events again.")
    return await send_json(send, 200, receipt.as_json(), decision_id)

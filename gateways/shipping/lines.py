"""One line of an access log, and the usage event that it tells of. Strangers have written part of every line."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from typing import Any, Callable

MOST_METHOD = 16
MOST_PATH = 500
MOST_MILLISECONDS = 2_147_483_647
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What log formats write where there is nothing.
NOTHING = frozenset({None, "", "-"})
# nginx's status for a client that went away before there was an answer. Envoy and Caddy write 0.
CLIENT_GONE = 499

Facts = dict[str, Any]
Event = dict[str, Any]


class BrokenLine(Exception):
    """The line does not say what it must."""


def read_line(line: bytes, facts_of: Callable[[Facts], Facts], *, place: str) -> Event | None:
    """Return the event of a served request; None for one that was refused: the console knows of those.

    facts_of: how the gateway writes, one of FORMATS; place: an id for a line that has none of its own.
    Errors: BrokenLine.
    """
    try:
        # What was not UTF-8 in a request is not in the log either. Decimals: a time must be the same each time.
        content = json.loads(line.decode("utf-8", "replace"), parse_float=Decimal)
        facts = facts_of(content)
        if facts["key_id"] in NOTHING:
            return None
        event = {
            "id": _text(facts["id"], 64) or place,
            "occurred_at": _time(facts["started"]),
            "key_id": _text(facts["key_id"], 64),
            "key_version": int(facts["key_version"]),
            "decision_id": _text(facts["decision_id"], 64),
            "status": _status(facts["status"]),
            "latency_ms": _milliseconds(facts["seconds"]),
            "method": _text(facts["method"], MOST_METHOD),
            "path": _text(str(facts["path"] or "").partition("?")[0], MOST_PATH),
            "client_ip": _address(facts["client_ip"]),
        }
    # Nesting without end, numbers without end, numbers that are words: whatever it is, it is this line alone.
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        raise BrokenLine(type(error).__name__) from error
    return {name: value for name, value in event.items() if value is not None}


def _nginx(line: Facts) -> Facts:
    """`log_format keeptrusts` of deploy/gateways/nginx.conf: its variables by their names."""
    seconds = _number(line["request_time"])
    return {
        "id": line["request_id"],
        "started": _number(line["msec"]) - seconds,
        "seconds": seconds,
        "status": line["status"],
        "method": line["request_method"],
        "path": line["path"],
        "client_ip": line["remote_addr"],
        "key_id": line["key_id"],
        "key_version": line["key_version"],
        "decision_id": line["decision_id"],
    }


def _envoy(line: Facts) -> Facts:
    """`json_format` of deploy/gateways/envoy.yaml. A request's own id may be the client's; the decision's is ours."""
    return {
        "id": line["decision_id"],
        "started": _number(line["start_time"]),
        "seconds": _number(line["duration"]) / 1_000,
        "status": line["response_code"],
        "method": line["method"],
        "path": line["path"],
        "client_ip": line["client_ip"],
        "key_id": line["key_id"],
        "key_version": line["key_version"],
        "decision_id": line["decision_id"],
    }


def _caddy(line: Facts) -> Facts:
    """Caddy's own format. The key is in the answer's headers, which deploy/gateways/Caddyfile writes last."""
    request, answer = line["request"], line["resp_headers"] or {}
    seconds = _number(line["duration"])
    decision_id = _header(answer, "X-Keeptrusts-Decision-Id")
    return {
        "id": decision_id,
        "started": _number(line["ts"]) - seconds,
        "seconds": seconds,
        "status": line["status"],
        "method": request["method"],
        "path": request["uri"],
        "client_ip": request.get("client_ip") or request.get("remote_ip"),
        "key_id": _header(answer, "X-Keeptrusts-Key-Id"),
        "key_version": _header(answer, "X-Keeptrusts-Key-Version"),
        "decision_id": decision_id,
    }


FORMATS: dict[str, Callable[[Facts], Facts]] = {"nginx": _nginx, "envoy": _envoy, "caddy": _caddy}


def _header(headers: Facts, name: str) -> str | None:
    found = headers.get(name)
    return str(found[0]) if found else None


def _number(value: Any) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise ValueError("no number") from error
    if not number.is_finite():
        raise ValueError("no finite number")
    return number


def _time(seconds: Decimal) -> str:
    """Return RFC 3339 of seconds since 1970. Errors: ValueError, OverflowError."""
    if not 0 <= seconds < 253_402_300_800:
        raise ValueError("no time of this era")
    return (EPOCH + timedelta(microseconds=int(seconds * 1_000_000))).isoformat()


def _milliseconds(seconds: Decimal) -> int:
    return max(0, min(round(min(seconds, Decimal(MOST_MILLISECONDS)) * 1_000), MOST_MILLISECONDS))


def _status(value: Any) -> int | None:
    """Return what a client was answered; None, not reported, for what is no status of HTTP/1 (nginx: 009)."""
    status = int(value) or CLIENT_GONE
    return status if 100 <= status <= 599 else None


def _text(value: Any, most: int) -> str | None:
    if not isinstance(value, str) or value in NOTHING:
        return None
    # Half of a surrogate pair is a text to JSON, and none to whoever must store it.
    return value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")[:most]


def _address(value: Any) -> str | None:
    """Return the address without brackets and zone; None for what is none (a Unix socket)."""
    if not isinstance(value, str):
        return None
    try:
        return str(ip_address(value.strip("[]").partition("%")[0]))
    except ValueError:
        return None

"""What gateways report, read and checked: JSON or NDJSON, event by event, by hand-written checks.

Ten thousand events come in one request, and each needs an answer of its own with a stable code; a schema library says
less about one bad event among many and costs more for all the good ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson

from audit.redaction import holds_secret, redact

MOST_EVENTS: Final = 10_000
OLDEST: Final = timedelta(days=30)
MOST_AHEAD: Final = timedelta(minutes=5)
MOST_MILLISECONDS: Final = 2_147_483_647
MOST_NUMBER: Final = 2_147_483_647
# Of one request. Far above every model's limit, and far below where the sums of a bucket would overflow.
MOST_TOKENS: Final = 1_000_000_000
MOST_COST: Final = 1_000_000_000
COST_STEP: Final = Decimal("0.000000001")
MOST_METHOD: Final = 16
MOST_PATH: Final = 500
# Of texts that were parsed before: ids of keys, and addresses of clients.
REMEMBERED: Final = 8_192

_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,20})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_COST: Final = re.compile(r"\d{1,9}(?:\.\d{1,20})?", re.ASCII)


class UnreadableReport(Exception):
    """The body is no list of events. status: what to answer."""

    def __init__(self, code: str, detail: str, *, status: int = 400) -> None:
        super().__init__(detail)
        self.code, self.detail, self.status = code, detail, status


class BadEvent(Exception):
    """One event cannot be taken. code: stable, for machines."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(slots=True)
class Report:
    """One event as a gateway reported it; its names are those of the contract."""

    id: str
    occurred_at: datetime
    key_id: UUID
    key_version: int
    decision_id: str = ""
    status: int | None = None
    latency_ms: int | None = None
    method: str = ""
    path: str = ""
    client_ip: str | None = None
    provider: str = ""
    model: str = ""
    operation: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None


class _NotJson:
    """Stands for a line that is not JSON."""


def read_body(body: bytes, *, lines: bool) -> list[object]:
    """Return the events of a request, not yet checked. lines: NDJSON instead of one object.

    Errors: UnreadableReport. A line that is not JSON is one bad event, not a bad request.
    """
    if not lines:
        return _not_too_many(_listed(body))
    return [_line(line) for line in _not_too_many([line for line in body.splitlines() if line.strip()])]


def read_event(event: object, *, now: datetime) -> Report:
    """Return the event, checked and with every secret in its texts cut down to its hint. Errors: BadEvent."""
    if not isinstance(event, dict):
        if isinstance(event, _NotJson):
            raise BadEvent("invalid_json", "This line is not JSON.")
        raise BadEvent("not_an_object", "An event is a JSON object.")
    facts: dict[str, Any] = {}
    for name, value in event.items():
        check = _CHECKS.get(name)
        if check is None:
            raise BadEvent("unknown_field", f"There is no field “{redact(name)[:64]}”.")
        if value is not None:
            facts[name] = check(name, value)
    for name in _REQUIRED:
        if name not in facts:
            raise BadEvent("required", f"{name} is required.")
    occurred_at: datetime = facts["occurred_at"]
    if occurred_at < now - OLDEST:
        raise BadEvent("too_old", f"occurred_at lies more than {OLDEST.days} days back.")
    if occurred_at > now + MOST_AHEAD:
        raise BadEvent("in_the_future", "occurred_at lies more than 5 minutes ahead.")
    return Report(**facts)


def _not_too_many[T](events: list[T]) -> list[T]:
    if len(events) > MOST_EVENTS:
        raise UnreadableReport("too_many_events", f"At most {MOST_EVENTS:,} events at once.", status=413)
    return events


def _line(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _NotJson()


def _listed(body: bytes) -> list[object]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableReport("invalid_json", "The body is not JSON.") from error
    if not isinstance(content, dict) or set(content) != {"events"} or not isinstance(content["events"], list):
        raise UnreadableReport("invalid_body", 'The body must be {"events": […]}.')
    return content["events"]


def _text(most: int) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        text = redact(_string(name, value))
        if len(text) > most:
            raise BadEvent("too_long", f"{name} has more than {most} characters.")
        return text

    return check


def _reference(most: int) -> Callable[[str, object], str]:
    """A text that something is found again by: nothing of it may be struck out."""

    def check(name: str, value: object) -> str:
        text = _string(name, value)
        if not 1 <= len(text) <= most:
            raise BadEvent("too_long" if text else "blank", f"{name} has 1 to {most} characters.")
        if "kt_" in text and holds_secret(text):
            raise BadEvent("secret_value", f"{name} looks like a secret value, which is never stored.")
        return text

    return check


def _of_the_request_line(most: int) -> Callable[[str, object], str]:
    """A text that the client has chosen: made to fit, because whatever it is, it must not cost the count."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise BadEvent("invalid_type", f"{name} is a text.")
        return redact(value.replace("\x00", ""))[:most]

    return check


def _string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadEvent("invalid_type", f"{name} is a text.")
    if "\x00" in value:
        raise BadEvent("nul_character", f"{name} holds a NUL character.")
    return value


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if type(value) is not int:  # a bool is an int, and is none here
            raise BadEvent("invalid_type", f"{name} is a whole number.")
        if not least <= value <= most:
            raise BadEvent("out_of_range", f"{name} lies between {least:,} and {most:,}.")
        return value

    return check


def _milliseconds(name: str, value: object) -> int:
    if type(value) is not int and type(value) is not float:
        raise BadEvent("invalid_type", f"{name} is a number.")
    if not 0 <= value <= MOST_MILLISECONDS:
        raise BadEvent("out_of_range", f"{name} lies between 0 and {MOST_MILLISECONDS:,}.")
    return round(value)


def _cost(name: str, value: object) -> Decimal:
    if type(value) is int or type(value) is float:
        # A negative or a huge one is refused before it is made a decimal.
        cost = Decimal(str(value)) if 0 <= value < MOST_COST else None
    elif isinstance(value, str):
        cost = Decimal(value) if _COST.fullmatch(value) else None
    else:
        raise BadEvent("invalid_type", f"{name} is a number, or a number in a text.")
    cost = cost.quantize(COST_STEP) if cost is not None else None
    if cost is None or cost >= MOST_COST:
        raise BadEvent("out_of_range", f"{name} is a decimal number from 0 to below {MOST_COST:,}.")
    return cost


def _time(name: str, value: object) -> datetime:
    try:
        if isinstance(value, str) and _RFC_3339.fullmatch(value):
            time = datetime.fromisoformat(value.upper())
            return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):  # 30 February; a year 0
        pass
    raise BadEvent("invalid_time", f"{name} is a time such as 2030-01-31T12:00:00Z (RFC 3339).")


def _uuid(name: str, value: object) -> UUID:
    try:
        if isinstance(value, str):
            # Longer texts, which it takes as well, are not worth remembering.
            return _parsed_uuid(value) if len(value) == 36 else UUID(value)
    except ValueError:
        pass
    raise BadEvent("invalid_id", f"{name} is the id that came with the decision.")


def _address(name: str, value: object) -> str:
    try:
        return _parsed_address(_string(name, value))
    except ValueError as error:
        raise BadEvent("invalid_address", f"{name} is an IP address, without port and zone.") from error


# A report names the same few keys and clients over and over.
@lru_cache(REMEMBERED)
def _parsed_uuid(text: str) -> UUID:
    return UUID(text)


@lru_cache(REMEMBERED)
def _parsed_address(text: str) -> str:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone")
        address = address.ipv4_mapped or address
    return str(address)


_REQUIRED: Final = ("id", "occurred_at", "key_id", "key_version")
_CHECKS: Final[dict[str, Callable[[str, object], Any]]] = {
    "id": _reference(64),
    "occurred_at": _time,
    "key_id": _uuid,
    "key_version": _whole(1, MOST_NUMBER),
    "decision_id": _reference(64),
    "status": _whole(100, 599),
    "latency_ms": _milliseconds,
    "method": _of_the_request_line(MOST_METHOD),
    "path": _of_the_request_line(MOST_PATH),
    "client_ip": _address,
    "provider": _text(100),
    "model": _text(100),
    "operation": _text(100),
    "input_tokens": _whole(0, MOST_TOKENS),
    "output_tokens": _whole(0, MOST_TOKENS),
    "cost": _cost,
}

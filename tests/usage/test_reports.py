"""What a gateway may report: every field's limits, and a code for each way to miss them."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from access import tokens
from access.tokens import TokenKind
from usage.reports import BadEvent, Report, UnreadableReport, read_body, read_event

pytestmark = pytest.mark.once

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
KEY_ID = uuid.UUID("0190d1f2-0000-4000-8000-000000000001")
SECRET = tokens.generate(TokenKind.GATEWAY_KEY)
EVENT = {"id": "e-1", "occurred_at": "2030-01-31T11:59:00Z", "key_id": str(KEY_ID), "key_version": 1}


def read(**changed: Any) -> Report:
    return read_event({**EVENT, **changed}, now=NOW)


def code_of(event: object) -> str:
    with pytest.raises(BadEvent) as refused:
        read_event(event, now=NOW)
    assert SECRET not in refused.value.detail
    return refused.value.code


def test_the_four_required_facts_are_enough() -> None:
    assert read() == Report(id="e-1", occurred_at=NOW - timedelta(minutes=1), key_id=KEY_ID, key_version=1)


def test_everything_that_can_be_said() -> None:
    report = read(
        decision_id="d" * 32,
        status=503,
        latency_ms=12.6,
        method="POST",
        path="/v1/chat?stream=1",
        client_ip="::ffff:192.0.2.1",
        provider="openai",
        model="gpt-4o",
        operation="chat",
        input_tokens=0,
        output_tokens=1_000_000_000,
        cost="0.000000001",
    )
    assert (report.status, report.latency_ms, report.client_ip) == (503, 13, "192.0.2.1")
    assert (report.input_tokens, report.output_tokens, report.cost) == (0, 1_000_000_000, Decimal("1E-9"))


def test_null_is_the_same_as_not_said() -> None:
    assert read(status=None, model=None, cost=None) == read()


@pytest.mark.parametrize("name", EVENT)
def test_what_is_required(name: str) -> None:
    assert code_of({other: value for other, value in EVENT.items() if other != name}) == "required"
    assert code_of({**EVENT, name: None}) == "required"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("id", "", "blank"),
        ("id", "x" * 65, "too_long"),
        ("id", 7, "invalid_type"),
        ("id", "a\x00b", "nul_character"),
        ("id", SECRET, "secret_value"),
        ("decision_id", SECRET, "secret_value"),
        ("decision_id", "x" * 65, "too_long"),
        ("key_id", "nonsense", "invalid_id"),
        ("key_id", 7, "invalid_id"),
        ("key_version", 0, "out_of_range"),
        ("key_version", 2**31, "out_of_range"),
        ("key_version", "1", "invalid_type"),
        ("key_version", True, "invalid_type"),
        ("key_version", 1.0, "invalid_type"),
        ("status", 99, "out_of_range"),
        ("status", 600, "out_of_range"),
        ("status", "200", "invalid_type"),
        ("latency_ms", -1, "out_of_range"),
        ("latency_ms", -0.1, "out_of_range"),
        ("latency_ms", 2**31, "out_of_range"),
        ("latency_ms", 1e308, "out_of_range"),
        ("latency_ms", "3", "invalid_type"),
        ("latency_ms", False, "invalid_type"),
        ("method", ["GET"], "invalid_type"),
        ("path", {}, "invalid_type"),
        ("client_ip", "192.0.2.1:80", "invalid_address"),
        ("client_ip", "fe80::1%eth0", "invalid_address"),
        ("client_ip", "", "invalid_address"),
        ("client_ip", 3221225985, "invalid_type"),
        ("provider", "x" * 101, "too_long"),
        ("model", "x" * 101, "too_long"),
        ("operation", "x" * 101, "too_long"),
        ("input_tokens", -1, "out_of_range"),
        ("output_tokens", 1_000_000_001, "out_of_range"),
        ("input_tokens", 2**63, "out_of_range"),
        ("input_tokens", 1e30, "invalid_type"),
        ("cost", -1, "out_of_range"),
        ("cost", -1e-12, "out_of_range"),
        ("cost", 1_000_000_000, "out_of_range"),
        ("cost", "999999999.9999999999", "out_of_range"),
        ("cost", 1e308, "out_of_range"),
        ("cost", "1e3", "out_of_range"),
        ("cost", "NaN", "out_of_range"),
        ("cost", "\u0661", "out_of_range"),
        ("cost", True, "invalid_type"),
        ("colour", "red", "unknown_field"),
        (SECRET, "x", "unknown_field"),
    ],
)
def test_what_is_out_of_bounds(name: str, value: object, code: str) -> None:
    assert code_of({**EVENT, name: value}) == code


@pytest.mark.parametrize("event", [None, [], "x", 7, True])
def test_an_event_is_an_object(event: object) -> None:
    assert code_of(event) == "not_an_object"


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-31T11:59:00Z",
        "2030-01-31t11:59:00z",
        "2030-01-31 11:59:00+00:00",
        "2030-01-31T13:59:00.000+02:00",
        "2030-01-31T11:59:00.000000000-00:00",
    ],
)
def test_times_of_rfc_3339(text: str) -> None:
    assert read(occurred_at=text).occurred_at == NOW - timedelta(minutes=1)


@pytest.mark.parametrize(
    "value",
    [
        "2030-01-31T11:59:00",
        "2030-01-31",
        "20300131T115900Z",
        "2030-W05-4T11:59:00Z",
        "2030-02-30T11:59:00Z",
        "2030-01-31T24:00:01Z",
        "0000-01-31T11:59:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2030-01-31T11:59:00+99:99",
        "\uff12030-01-31T11:59:00Z",
        "now",
        "",
        1_896_091_140,
    ],
)
def test_what_is_no_time(value: object) -> None:
    assert code_of({**EVENT, "occurred_at": value}) == "invalid_time"


@pytest.mark.parametrize(
    ("age", "code"),
    [
        (timedelta(days=30), None),
        (timedelta(days=30, microseconds=1), "too_old"),
        (timedelta(minutes=-5), None),
        (timedelta(minutes=-5, microseconds=-1), "in_the_future"),
    ],
)
def test_events_of_thirty_days_and_five_minutes_ahead(age: timedelta, code: str | None) -> None:
    event = {**EVENT, "occurred_at": (NOW - age).isoformat()}
    if code is None:
        assert read_event(event, now=NOW).occurred_at == NOW - age
    else:
        assert code_of(event) == code


def test_secrets_in_texts_are_cut_down_to_their_hints() -> None:
    report = read(path=f"/v1?api_key={SECRET}", model=SECRET, operation=f"x {SECRET}")
    assert SECRET not in repr(report)
    assert (report.path, report.model) == (f"/v1?api_key={SECRET[:10]}…", f"{SECRET[:10]}…")


def test_whatever_a_client_asks_with_is_made_to_fit_because_it_must_not_cost_the_count() -> None:
    assert read(path="/" + "x" * 10_000).path == "/" + "x" * 499
    assert read(method="PROPFIND" * 10).method == "PROPFIND" * 2
    report = read(method="G\x00ET", path="/\x00")
    assert (report.method, report.path) == ("GET", "/")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from([*Report.__dataclass_fields__])


@given(st.dictionaries(FIELDS | st.text(max_size=5), VALUES) | VALUES, st.booleans())
def test_any_json_is_a_report_or_a_bad_event(event: object, whole: bool) -> None:
    with suppress(BadEvent):
        read_event({**EVENT, **event} if whole and isinstance(event, dict) else event, now=NOW)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'{"events": ["\\ud800"]}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"[]", "invalid_body"),
        (b"{}", "invalid_body"),
        (b'{"events": {}}', "invalid_body"),
        (b'{"events": [], "more": 1}', "invalid_body"),
        (b"null", "invalid_body"),
        (b'{"events": [' + b",".join([b"1"] * 10_001) + b"]}", "too_many_events"),
    ],
)
def test_bodies_that_are_no_list_of_events(body: bytes, code: str) -> None:
    with pytest.raises(UnreadableReport) as refused:
        read_body(body, lines=False)
    assert refused.value.code == code
    assert refused.value.status == (413 if code == "too_many_events" else 400)


def test_a_line_that_is_not_json_is_one_bad_event() -> None:
    body = b"\n" + orjson.dumps(EVENT) + b"\r\n{broken\n\n" + orjson.dumps(EVENT)
    first, second, third = read_body(body, lines=True)
    assert first == third == EVENT
    assert code_of(second) == "invalid_json"


def test_too_many_lines() -> None:
    with pytest.raises(UnreadableReport):
        read_body(b"1\n" * 10_001, lines=True)
    assert len(read_body(b"1\n" * 10_000, lines=True)) == 10_000


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_events_or_unreadable(body: bytes, lines: bool) -> None:
    with suppress(UnreadableReport):
        assert isinstance(read_body(body, lines=lines), list)

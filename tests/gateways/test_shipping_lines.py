"""Lines of access logs as the shipper reads them: what a gateway says, whatever strangers have put in between."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateways.shipping
from gateways.shipping.lines import FORMATS, BrokenLine, read_line
from tests.processes import ROOT
from usage.reports import read_event

pytestmark = pytest.mark.once

KEY = "0199a5c1-7b5e-7cc3-98a1-6b1f2f3e4d5c"
NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
AT = NOW.timestamp()

LINES: dict[str, dict[str, Any]] = {
    "nginx": {
        "msec": f"{AT:.3f}",
        "request_id": "a" * 32,
        "request_time": "1.250",
        "status": "200",
        "request_method": "POST",
        "path": "/v1/chat",
        "remote_addr": "192.0.2.7",
        "key_id": KEY,
        "key_version": "3",
        "decision_id": "d" * 32,
        "upstream_response_time": "1.249",
    },
    "envoy": {
        "start_time": f"{AT - 1.25:.6f}",
        "duration": 1250,
        "response_code": 200,
        "response_flags": "-",
        "method": "POST",
        "path": "/v1/chat",
        "client_ip": "192.0.2.7",
        "key_id": KEY,
        "key_version": "3",
        "decision_id": "d" * 32,
    },
    "caddy": {
        "level": "info",
        "ts": AT,
        "request": {"remote_ip": "192.0.2.7", "method": "POST", "uri": "/v1/chat?q=1"},
        "duration": 1.25,
        "status": 200,
        "resp_headers": {
            "X-Keeptrusts-Key-Id": [KEY],
            "X-Keeptrusts-Key-Version": ["3"],
            "X-Keeptrusts-Decision-Id": ["d" * 32],
        },
    },
}
# Where each gateway writes what a client has chosen.
CHOSEN = {"nginx": ("request_method", "path"), "envoy": ("method", "path"), "caddy": ("method", "uri")}

WRONG: list[dict[str, Any]] = [
    {"msec": "yesterday"},
    {"msec": "NaN"},
    {"msec": float("inf")},
    {"msec": "-7"},
    {"msec": "1e300"},
    {"request_time": ""},
    {"key_version": "new"},
    {"key_version": {}},
    {"key_id": []},
    {"status": "-"},
]


def read(format: str, line: object) -> dict[str, Any] | None:
    return read_line(json.dumps(line).encode(), FORMATS[format], place="file-17")


@pytest.mark.parametrize("format", FORMATS)
def test_a_line_is_an_event(format: str) -> None:
    assert read(format, LINES[format]) == {
        "id": ("a" if format == "nginx" else "d") * 32,
        # When it began: a log is written when the answer ends.
        "occurred_at": "2026-11-24T09:59:58.750000+00:00",
        "key_id": KEY,
        "key_version": 3,
        "decision_id": "d" * 32,
        "status": 200,
        "latency_ms": 1250,
        "method": "POST",
        "path": "/v1/chat",
        "client_ip": "192.0.2.7",
    }


@pytest.mark.parametrize(
    ("format", "refused"),
    [
        ("nginx", {"key_id": ""}),
        ("envoy", {"key_id": None}),
        ("envoy", {"key_id": "-"}),
        ("caddy", {"resp_headers": {}}),
        ("caddy", {"resp_headers": None}),
    ],
)
def test_a_refused_request_is_none_because_the_console_knows_of_it(format: str, refused: dict[str, Any]) -> None:
    assert read(format, LINES[format] | refused) is None


def test_a_line_without_an_id_is_told_by_its_place() -> None:
    event = read("nginx", LINES["nginx"] | {"request_id": ""})
    assert event
    assert event["id"] == "file-17"


@pytest.mark.parametrize(
    ("said", "status"),
    [("000", 499), ("0", 499), ("499", 499), ("009", None), ("101", 101), ("599", 599), ("600", None)],
)
def test_a_status_that_is_none_is_not_reported_and_a_client_that_left_is_499(said: str, status: int | None) -> None:
    event = read("nginx", LINES["nginx"] | {"status": said})
    assert event
    assert event.get("status") == status


@pytest.mark.parametrize(
    ("said", "address"), [("unix:", None), ("[2001:db8::1]", "2001:db8::1"), ("fe80::1%eth0", "fe80::1")]
)
def test_an_address_that_is_none_is_not_reported(said: str, address: str | None) -> None:
    event = read("nginx", LINES["nginx"] | {"remote_addr": said})
    assert event
    assert event.get("client_ip") == address


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"7",
        b"[]",
        b"{}",
        b'{"msec":',
        b"[" * 100_000,
        json.dumps(LINES["envoy"]).encode(),
        *(json.dumps(LINES["nginx"] | wrong).encode() for wrong in WRONG),
    ],
)
def test_a_line_that_does_not_say_what_it_must_is_broken(line: bytes) -> None:
    with pytest.raises(BrokenLine):
        read_line(line, FORMATS["nginx"], place="file-17")


@given(st.sampled_from(sorted(FORMATS)), st.text(), st.text(max_size=2_000))
def test_whatever_a_client_chose_the_console_takes_the_event(format: str, method: str, path: str) -> None:
    line = json.loads(json.dumps(LINES[format]))
    within = line["request"] if format == "caddy" else line
    for name, chosen in zip(CHOSEN[format], (method, path), strict=True):
        within[name] = chosen
    event = read(format, line)
    assert event
    report = read_event(json.loads(json.dumps(event, ensure_ascii=False).encode()), now=NOW)
    assert (str(report.key_id), report.status, "?" in report.path) == (KEY, 200, False)


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=100), st.data())
def test_bytes_of_any_kind_in_a_line_break_that_line_at_most(format: str, noise: bytes, data: st.DataObject) -> None:
    line = json.dumps(LINES[format]).encode()
    cut = data.draw(st.integers(0, len(line)))
    try:
        event = read_line(line[:cut] + noise + line[cut:], FORMATS[format], place="file-17")
    except BrokenLine:
        return
    json.dumps(event, ensure_ascii=False).encode()


def test_the_shipper_is_written_for_old_pythons_and_imports_nothing_but_itself() -> None:
    files = list((ROOT / "gateways" / "shipping").glob("*.py"))
    assert len(files) > 3
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gateways"):
                assert node.module.startswith(gateways.shipping.__name__)
    assert (ROOT / "gateways" / "__init__.py").read_text() == ""

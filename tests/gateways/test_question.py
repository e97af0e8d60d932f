"""How headers are read: any bytes, never an exception, and nothing of a value stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access import tokens
from access.tokens import TokenKind
from gateways.decision import Question, Reason
from gateways.question import read_question

pytestmark = pytest.mark.once

VALUE = tokens.generate(TokenKind.GATEWAY_KEY)
TOKEN = tokens.generate(TokenKind.GATEWAY_TOKEN)
KNOWN_NAMES = [
    b"authorization",
    b"x-keeptrusts-gateway-token",
    b"x-keeptrusts-consumer-group",
    b"x-keeptrusts-client-ip",
    b"x-forwarded-for",
]


def key_of(*authorization: bytes) -> bytes | Reason:
    return read_question([(b"authorization", value) for value in authorization]).key


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   ", b"  Bearer \t"])
def test_the_value_is_found_whatever_the_case_of_the_scheme(scheme: bytes) -> None:
    assert key_of(scheme + VALUE.encode()) == tokens.digest(VALUE)
    assert key_of(scheme + VALUE.encode() + b" \t") == tokens.digest(VALUE)


@pytest.mark.parametrize("nothing", [b"", b"Basic dXNlcjpwYXNz", b"Bearer", b"Bearer ", b"BearerX", b"\xff\x00"])
def test_without_a_bearer_value_the_key_is_missing(nothing: bytes) -> None:
    assert key_of(nothing) is Reason.KEY_MISSING
    assert key_of() is Reason.KEY_MISSING


@pytest.mark.parametrize(
    "credentials",
    [
        VALUE[:-1].encode(),
        VALUE.encode() + b"a",
        VALUE.upper().encode(),
        VALUE.encode() + b"\x00",
        VALUE.encode() + b", Bearer " + VALUE.encode(),
        b'"' + VALUE.encode() + b'"',
        b"\xff" * 38,
        TOKEN.encode(),
        tokens.generate(TokenKind.ACCESS_KEY).encode(),
        (VALUE[:-1] + ("a" if VALUE[-1] != "a" else "b")).encode(),
        b"x" * 100_000,
    ],
)
def test_what_has_not_the_shape_or_checksum_is_malformed(credentials: bytes) -> None:
    assert key_of(b"Bearer " + credentials) is Reason.KEY_MALFORMED


def test_two_values_are_malformed_even_the_same_twice() -> None:
    value = b"Bearer " + VALUE.encode()
    assert key_of(value, value) is Reason.KEY_MALFORMED
    assert key_of(b"Basic x", value) is Reason.KEY_MALFORMED


def test_two_gateway_tokens_are_none() -> None:
    header = (b"x-keeptrusts-gateway-token", TOKEN.encode())
    assert read_question([header]).gateway_token == tokens.digest(TOKEN)
    assert read_question([header, header]).gateway_token is None
    assert read_question([(header[0], VALUE.encode())]).gateway_token is None


def test_the_last_word_of_the_last_forwarded_header_counts() -> None:
    several = [(b"x-forwarded-for", b"10.0.0.1, 10.0.0.2"), (b"x-forwarded-for", b"10.0.0.3 , 203.0.113.9 ")]
    assert read_question(several).forwarded_for == "203.0.113.9"
    assert read_question([(b"x-forwarded-for", b"10.0.0.1,")]).forwarded_for == ""
    assert read_question([]).forwarded_for is None


def test_two_client_addresses_and_two_groups_are_neither() -> None:
    found = read_question([(b"x-keeptrusts-client-ip", b"10.0.0.1"), (b"x-keeptrusts-client-ip", b"10.0.0.1")])
    assert found.client_ip == "10.0.0.1,10.0.0.1"
    found = read_question([(b"x-keeptrusts-consumer-group", b"a"), (b"x-keeptrusts-consumer-group", b"b")])
    assert found.group == "a,b"


def test_an_empty_group_is_silence() -> None:
    assert read_question([(b"x-keeptrusts-consumer-group", b" ")]).group is None


@given(st.lists(st.tuples(st.sampled_from(KNOWN_NAMES) | st.binary(), st.binary(max_size=200))))
def test_any_bytes_make_a_question(headers: list[tuple[bytes, bytes]]) -> None:
    assert isinstance(read_question(headers), Question)


@given(st.lists(st.sampled_from([VALUE.encode(), b"Bearer ", b" ", b",", b"\x00", b"x"]), max_size=6))
def test_nothing_of_a_value_stays(pieces: list[bytes]) -> None:
    assert VALUE[10:] not in repr(read_question([(b"authorization", b"".join(pieces))]))

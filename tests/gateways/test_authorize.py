"""The contract of `authorize`, spoken to a running data plane: statuses, headers, reasons (design §8)."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access import tokens
from access.tokens import TokenKind
from audit import clock
from gateways.decision import Reason
from gateways.registry import rotate_token
from keys import lifecycle
from keys.groups import edit_group
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import AUTHORIZE, INTROSPECT, USAGE, Answer, Plane, question

REALM = 'Bearer realm="keeptrusts"'
STATUSES = {200, 401, 403}


def check_refusal(answer: Answer, status: int, reason: Reason) -> None:
    """Every refusal: empty, not to be stored, with a reason and an id, and the challenge of RFC 6750 §3.1."""
    assert (answer.status, answer.reason, answer.body) == (status, reason, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["x-keeptrusts-decision-id"]) == 32
    challenge = answer.headers.get("www-authenticate")
    if reason is Reason.GATEWAY_UNKNOWN:
        assert challenge is None
    elif reason is Reason.KEY_MISSING:
        assert challenge == REALM
    else:
        error = "invalid_token" if status == 401 else "insufficient_scope"
        assert challenge is not None
        assert challenge.startswith(f'{REALM}, error="{error}", error_description="')


def test_allowed_is_exactly_200_with_all_four_headers(plane: Plane) -> None:
    key = make_key(consumer_group=make_group("payments"))
    answer = plane.authorize(make_gateway().value, key.value)
    assert (answer.status, answer.body) == (200, b"")
    decision_id = answer.headers.pop("x-keeptrusts-decision-id")
    assert len(decision_id) == 32
    assert answer.headers == {
        "x-keeptrusts-key-id": str(key.key.id),
        "x-keeptrusts-key-version": "1",
        "x-keeptrusts-consumer-group": "payments",
        "cache-control": "no-store",
        "content-length": "0",
    }


def test_an_unscoped_key_is_of_every_group(plane: Plane) -> None:
    token, value = make_gateway().value, make_key().value
    answer = plane.authorize(token, value, x_keeptrusts_consumer_group="anything")
    assert (answer.status, answer.headers["x-keeptrusts-consumer-group"]) == (200, "*")


def test_any_method_and_anything_appended_to_the_path(plane: Plane) -> None:
    headers = question(make_gateway().value, make_key().value, host="anything.example")
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        for appended in ("", "/", "/v1/chat/completions", "/../x", "//"):
            answer = plane.ask(method, AUTHORIZE + appended, headers=headers, body=b"ignored")
            assert answer.status == 200, (method, appended)


def test_other_paths_are_not_found(plane: Plane) -> None:
    for path in ("/gateway/v1/", "/gateway/v1/authorizes", "/gateway/v1/usage/", "/gateway/v1/x"):
        answer = plane.ask("GET", path)
        assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_what_is_posted_to_is_not_got(plane: Plane) -> None:
    for path in (USAGE, INTROSPECT):
        answer = plane.ask("GET", path)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_an_unknown_gateway_is_refused_whatever_it_asks(plane: Plane) -> None:
    value = make_key().value
    for token in (None, "", "nonsense", tokens.generate(TokenKind.GATEWAY_TOKEN), value):
        check_refusal(plane.authorize(token, value), 403, Reason.GATEWAY_UNKNOWN)
        check_refusal(plane.authorize(token, None), 403, Reason.GATEWAY_UNKNOWN)


def test_both_tokens_are_accepted_while_they_overlap(plane: Plane) -> None:
    old, value = make_gateway(), make_key().value
    new = rotate_token(actor=TESTS, gateway_id=old.gateway.id, overlap=timedelta(hours=1))
    assert [plane.authorize(token.value, value).status for token in (old, new)] == [200, 200]
    with time_machine.travel(clock.now() + timedelta(hours=1)):
        check_refusal(plane.authorize(old.value, value), 403, Reason.GATEWAY_UNKNOWN)
        assert plane.authorize(new.value, value).status == 200


def test_no_key_is_a_bare_challenge(plane: Plane) -> None:
    token = make_gateway().value
    check_refusal(plane.authorize(token, None), 401, Reason.KEY_MISSING)
    check_refusal(plane.authorize(token, None, authorization="Basic eDp5"), 401, Reason.KEY_MISSING)


def test_malformed_and_unknown_keys(plane: Plane) -> None:
    token, value = make_gateway().value, make_key().value
    check_refusal(plane.authorize(token, value[:-1]), 401, Reason.KEY_MALFORMED)
    check_refusal(plane.authorize(token, value, authorization=f"Bearer {value}"), 401, Reason.KEY_MALFORMED)
    check_refusal(plane.authorize(token, tokens.generate(TokenKind.GATEWAY_KEY)), 401, Reason.KEY_UNKNOWN)


def test_gateways_limited_to_groups(plane: Plane) -> None:
    payments, search, other = (make_group(slug) for slug in ("payments", "search", "other"))
    token = make_gateway(consumer_groups=[payments, search], require_group=True).value
    key = make_key(consumer_group=payments)
    assert plane.authorize(token, key.value, x_keeptrusts_consumer_group="payments").status == 200
    check_refusal(plane.authorize(token, key.value), 403, Reason.GROUP_MISMATCH)
    stated_other = plane.authorize(token, key.value, x_keeptrusts_consumer_group="search")
    check_refusal(stated_other, 403, Reason.GROUP_MISMATCH)
    elsewhere = make_key(consumer_group=other).value
    check_refusal(plane.authorize(token, elsewhere), 403, Reason.GATEWAY_NOT_ALLOWED)


@pytest.mark.parametrize(("mode", "header"), [("header", "x_keeptrusts_client_ip"), ("forwarded", "x_forwarded_for")])
def test_networks_of_key_and_group(plane: Plane, mode: str, header: str) -> None:
    group = make_group()
    key = make_key(consumer_group=group, allowed_networks=["10.1.0.0/16", "2001:db8::/32"])
    # Made stricter later: what the key was allowed beyond it is refused, though it stands in the key.
    edit_group(actor=TESTS, group_id=group.pk, changed={"allowed_networks": ["10.0.0.0/8"]}, existing_keys="leave")
    token = make_gateway(client_address=mode).value
    assert plane.authorize(token, key.value, **{header: "10.1.2.3"}).status == 200
    for address in ("10.2.0.1", "2001:db8::1", "10.1.2.3:443", ""):
        answer = plane.authorize(token, key.value, **{header: address})
        check_refusal(answer, 403, Reason.NETWORK_NOT_ALLOWED)
    check_refusal(plane.authorize(token, key.value), 403, Reason.NETWORK_NOT_ALLOWED)


def test_any_bytes_in_any_header_get_an_answer_of_the_contract(plane: Plane) -> None:
    token, value = make_gateway().value.encode(), make_key().value.encode()
    names = st.sampled_from(
        [b"authorization", b"x-keeptrusts-consumer-group", b"x-keeptrusts-client-ip", b"x-forwarded-for", b"host"]
    )
    pieces = st.sampled_from([value, b"Bearer ", b",", b" ", b"10.0.0.1", b"\xff\xfe", b"\x00", b"\r\n"]) | st.binary()
    headers = st.lists(st.tuples(names, st.lists(pieces, max_size=4).map(b"".join)), max_size=6)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(headers=headers, path=st.text(max_size=20), known=st.booleans())
    def ask(headers: list[tuple[bytes, bytes]], path: str, known: bool) -> None:
        credential = [(b"x-keeptrusts-gateway-token", token)] if known else []
        answer = plane.ask("GET", f"{AUTHORIZE}/{path}", headers=credential + headers)
        assert answer.status in STATUSES
        assert answer.body == b""
        if answer.status != 200:
            assert answer.reason is not None
            check_refusal(answer, answer.status, Reason(answer.reason))
        told = " ".join(answer.headers.values())
        assert value.decode()[10:] not in told

    ask()
    plane.flush()


def test_the_value_reaches_no_log(plane: Plane, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """Nor where something unexpected happens in the middle of it all."""
    token, value = make_gateway().value, make_key().value
    caplog.set_level(logging.DEBUG)
    assert plane.authorize(token, value).status == 200
    plane.flush()

    def fail(*args: object) -> None:
        raise RuntimeError("something unexpected")

    monkeypatch.setattr("gateways.engine.decide", fail)
    answer = plane.authorize(token, value)
    assert (answer.status, answer.reason, answer.headers["retry-after"]) == (503, "undecided", "1")
    assert "something unexpected" in caplog.text
    logged = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records] + [caplog.text]
    assert not any(secret[10:] in line for secret in (token, value) for line in logged)


def test_a_websocket_is_closed_before_it_opens(plane: Plane) -> None:
    sent: list[dict[str, Any]] = []

    async def open_one() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await plane.application({"type": "websocket", "path": AUTHORIZE}, None, send)  # type: ignore[arg-type]  # unused

    plane.run(open_one())
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_server_without_lifespan_starts_it_with_the_first_request(plane: Plane) -> None:
    token, key = make_gateway().value, make_key()
    plane.run(plane.application.close())
    assert plane.authorize(token, key.value).status == 200
    lifecycle.revoke(actor=TESTS, key_id=key.key.id)
    assert plane.authorize(token, key.value).status == 401

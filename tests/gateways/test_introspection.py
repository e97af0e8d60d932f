"""RFC 7662 for stock clients: the gateway's token in three places, and `active` only for what is usable."""

from __future__ import annotations

import base64
from datetime import timedelta
from urllib.parse import urlencode

from access import tokens
from access.tokens import TokenKind
from audit import clock
from keys import lifecycle
from keys.models import KeyVersion
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import INTROSPECT, Answer, Header, Plane, question
from usage.models import KeyMetrics, UsageBucket

FORM = (b"content-type", b"application/x-www-form-urlencoded")


def introspect(plane: Plane, headers: list[Header], value: str) -> Answer:
    body = urlencode({"token": value, "token_type_hint": "access_token"}).encode()
    return plane.ask("POST", INTROSPECT, headers=[FORM, *headers], body=body)


def test_an_active_key_says_what_it_is(plane: Plane) -> None:
    token = make_gateway().value
    issued = make_key(consumer_group=make_group("payments"), expires_at=clock.now() + timedelta(days=1))
    answer = introspect(plane, question(token), issued.value)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert issued.key.expires_at is not None
    assert answer.json == {
        "active": True,
        "client_id": str(issued.key.id),
        "sub": str(issued.key.id),
        "token_type": "Bearer",
        "scope": "payments",
        "iat": int(issued.version.created_at.timestamp()),
        "exp": int(issued.key.expires_at.timestamp()),
        "keeptrusts_consumer_group": "payments",
        "keeptrusts_key_version": 1,
    }


def test_a_version_in_grace_expires_with_its_grace(plane: Plane) -> None:
    token, old = make_gateway().value, make_key(expires_at=clock.now() + timedelta(days=9))
    new = lifecycle.rotate(actor=TESTS, key_id=old.key.id, grace=timedelta(hours=1))
    valid_until = KeyVersion.objects.get(number=1).valid_until
    assert valid_until is not None
    assert introspect(plane, question(token), old.value).json["exp"] == int(valid_until.timestamp())
    assert introspect(plane, question(token), new.value).json["exp"] > valid_until.timestamp()


def test_a_key_that_does_not_expire_has_no_exp(plane: Plane) -> None:
    content = introspect(plane, question(make_gateway().value), make_key().value).json
    assert (content["active"], content["scope"], content.get("exp")) == (True, "*", None)


def test_stock_clients_send_the_gateway_token_as_bearer_or_basic(plane: Plane) -> None:
    token, value = make_gateway().value, make_key().value
    basics = [b"basic " + base64.b64encode(f"{user}:{token}".encode()) for user in ("edge", "", "a%20name")]
    for credential in (b"Bearer " + token.encode(), *basics):
        assert introspect(plane, [(b"authorization", credential)], value).json["active"] is True


def test_without_an_accepted_gateway_token_it_is_refused(plane: Plane) -> None:
    value = make_key().value
    wrong = [b"", b"Bearer x", b"Basic x", b"Basic \xff", b"Basic eA==", b"Digest x"]
    unknown = tokens.generate(TokenKind.GATEWAY_TOKEN)
    for headers in (*([(b"authorization", credential)] for credential in wrong), question(unknown)):
        answer = introspect(plane, headers, value)
        assert (answer.status, answer.reason) == (403, "gateway_unknown")


def test_whatever_is_not_usable_is_inactive_and_nothing_more(plane: Plane) -> None:
    token, search = make_gateway().value, make_group("search")
    revoked, disabled, away = make_key(), make_key(), make_key(allowed_networks=["10.0.0.0/8"])
    lifecycle.revoke(actor=TESTS, key_id=revoked.key.id)
    lifecycle.disable(actor=TESTS, key_id=disabled.key.id)
    unknown = tokens.generate(TokenKind.GATEWAY_KEY)
    for value in (revoked.value, disabled.value, away.value, unknown, "nonsense", "\x00\xff", token):
        answer = introspect(plane, question(token), value)
        assert (answer.status, answer.json) == (200, {"active": False})
    limited = make_gateway(consumer_groups=[make_group("payments")]).value
    elsewhere = make_key(consumer_group=search).value
    assert introspect(plane, question(limited), elsewhere).json == {"active": False}


def test_requests_that_are_none(plane: Plane) -> None:
    token = make_gateway().value
    for content_type, body, status in (
        (FORM[1], b"", 400),
        (FORM[1], b"token=", 400),
        (FORM[1], b"token=a&token=b", 400),
        (FORM[1], b"&".join([b"x=1"] * 101), 400),
        (FORM[1], b"\xff=\xfe&%", 400),
        (b"application/json", b'{"token": "x"}', 400),
        (b"", b"token=x", 400),
        (FORM[1], b"token=" + b"x" * 65_536, 413),
    ):
        headers = [(b"content-type", content_type), *question(token)]
        answer = plane.ask("POST", INTROSPECT, headers=headers, body=body)
        assert (answer.status, answer.json["error"]) == (status, "invalid_request"), body[:20]


def test_a_key_that_is_asked_about_is_in_use_though_no_request_is_counted(plane: Plane) -> None:
    """Else the keys of clients that only introspect would be revoked as idle."""
    issued = make_key()
    introspect(plane, question(make_gateway().value), issued.value)
    plane.flush()
    metrics = KeyMetrics.objects.get()
    assert (metrics.pk, metrics.total_requests) == (issued.key.id, 0)
    assert metrics.last_used_at is not None
    assert not UsageBucket.objects.exists()

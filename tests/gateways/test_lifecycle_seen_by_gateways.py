"""The whole life of a key as a gateway sees it: every verb holds for the next question, and time needs no job."""

from __future__ import annotations

from datetime import timedelta

import time_machine

from audit import clock
from keys import lifecycle
from keys.models import GatewayKey
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import Plane


def reason(plane: Plane, token: str, value: str) -> str:
    answer = plane.authorize(token, value)
    assert answer.status in {200, 401, 403}
    return answer.reason or "allowed"


def test_from_creation_to_revocation(plane: Plane) -> None:
    token, first = make_gateway().value, make_key()
    key_id = first.key.id
    assert reason(plane, token, first.value) == "allowed"

    second = lifecycle.rotate(actor=TESTS, key_id=key_id)
    assert [reason(plane, token, issued.value) for issued in (first, second)] == ["allowed", "allowed"]
    assert plane.authorize(token, first.value).headers["x-keeptrusts-key-version"] == "1"
    assert plane.authorize(token, second.value).headers["x-keeptrusts-key-version"] == "2"

    lifecycle.end_grace(actor=TESTS, key_id=key_id)
    assert [reason(plane, token, issued.value) for issued in (first, second)] == ["grace_over", "allowed"]

    third = lifecycle.rotate(actor=TESTS, key_id=key_id, grace=timedelta(0))
    assert [reason(plane, token, issued.value) for issued in (second, third)] == ["grace_over", "allowed"]

    lifecycle.disable(actor=TESTS, key_id=key_id)
    assert reason(plane, token, third.value) == "key_disabled"
    lifecycle.enable(actor=TESTS, key_id=key_id)
    assert reason(plane, token, third.value) == "allowed"

    lifecycle.revoke(actor=TESTS, key_id=key_id, reason="leaked")
    assert [reason(plane, token, issued.value) for issued in (first, second, third)] == ["key_revoked"] * 3


def test_a_narrowing_edit_holds_for_the_next_question(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    payments, search = make_group("payments"), make_group("search")

    def edit(**changed: object) -> None:
        lifecycle.edit(actor=TESTS, key_id=issued.key.id, changed=changed)

    assert reason(plane, token, issued.value) == "allowed"
    edit(consumer_group=payments)
    assert plane.authorize(token, issued.value, x_keeptrusts_consumer_group="search").reason == "group_mismatch"
    edit(consumer_group=search)
    assert plane.authorize(token, issued.value, x_keeptrusts_consumer_group="search").status == 200
    edit(allowed_networks=["10.0.0.0/8"])
    assert reason(plane, token, issued.value) == "network_not_allowed"


def test_time_alone_expires_a_key(plane: Plane) -> None:
    """No job runs here: nothing in the database says that the key has expired."""
    token = make_gateway().value
    issued = make_key(expires_at=clock.now() + timedelta(hours=1))
    expires_at = GatewayKey.objects.get().expires_at
    assert expires_at is not None
    with time_machine.travel(expires_at - timedelta(microseconds=1), tick=False):
        assert reason(plane, token, issued.value) == "allowed"
    with time_machine.travel(expires_at, tick=False):
        assert reason(plane, token, issued.value) == "key_expired"
    assert GatewayKey.objects.get().expiry_recorded_at is None


def test_time_alone_ends_grace(plane: Plane) -> None:
    token, first = make_gateway().value, make_key()
    second = lifecycle.rotate(actor=TESTS, key_id=first.key.id, grace=timedelta(seconds=90))
    valid_until = first.key.versions.get(number=1).valid_until
    assert valid_until is not None
    with time_machine.travel(valid_until - timedelta(microseconds=1), tick=False):
        assert reason(plane, token, first.value) == "allowed"
    with time_machine.travel(valid_until, tick=False):
        assert [reason(plane, token, issued.value) for issued in (first, second)] == ["grace_over", "allowed"]
    assert first.key.versions.get(number=1).closed_at is None

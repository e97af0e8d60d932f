"""What may go wrong around a lease, and still lets nothing through, loses nothing, and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connections, transaction
from pytest_django.fixtures import Settings
from redis import Redis
from rest_framework.response import Response
from rest_framework.test import APIClient

from access.rules import Role
from audit import clock
from audit.recording import record
from gateways import enforcement
from gateways.announcements import CHANNEL
from gateways.lease import Lease
from gateways.models import GatewayProcess
from gateways.registry import IssuedToken, rotate_token
from keys import bulk, lifecycle
from keys.issuing import IssuedKey
from keys.models import GatewayKey, Invalidation
from keys.narrowing import Kind, Narrowing
from tests.factories import TESTS, make_access_key, make_gateway, make_key, make_member
from tests.gateways.test_database_away import away
from tests.gateways.test_lease import holds_lease, stop_renewing, warm, words
from tests.plane import Plane, running_plane
from tests.processes import eventually
from usage.models import KeyMetrics

pytestmark = pytest.mark.postgresql


def lease_of(plane: Plane) -> Lease:
    engine = plane.application._engine
    assert engine is not None
    assert engine._lease is not None
    return engine._lease


def test_a_repeat_answers_when_the_first_has_come_into_force(plane: Plane) -> None:
    """Whoever repeats has no answer yet: the first may still wait, or its console may be dead."""
    token, issued, member = make_gateway().value, make_key(), make_member(Role.ADMIN)
    access_key = make_access_key(member).value
    assert eventually(lambda: holds_lease(plane))
    warm(plane, token, issued.value)
    stop_renewing(plane)
    first = threading.Thread(target=revoke_once, args=(issued, access_key))
    first.start()
    assert eventually(lambda: GatewayKey.objects.filter(revoked_at__isnull=False).exists())
    repeat = revoke_once(issued, access_key)
    assert (repeat.status_code, repeat["Idempotent-Replayed"]) == (200, "true")
    assert plane.authorize(token, issued.value).reason == "key_revoked"
    first.join()


def revoke_once(issued: IssuedKey, access_key: str) -> Response:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {access_key}")
    try:
        return client.post(f"/api/v1/gateway-keys/{issued.key.pk}/revoke/", headers={"Idempotency-Key": "once"})
    finally:
        if threading.current_thread() is not threading.main_thread():
            connections.close_all()


def end_grace(_: IssuedToken, issued: IssuedKey) -> None:
    lifecycle.end_grace(actor=TESTS, key_id=issued.key.id)


def rotate_without_grace(_: IssuedToken, issued: IssuedKey) -> None:
    lifecycle.rotate(actor=TESTS, key_id=issued.key.id, grace=timedelta(0))


def rotate_token_without_overlap(gateway: IssuedToken, _: IssuedKey) -> None:
    rotate_token(actor=TESTS, gateway_id=gateway.gateway.id, overlap=timedelta(0))


@pytest.mark.database_clock
@pytest.mark.parametrize("close", [end_grace, rotate_without_grace, rotate_token_without_overlap])
def test_what_ends_now_does_not_depend_on_whose_clock_is_a_moment_behind(
    plane: Plane, close: Callable[[IssuedToken, IssuedKey], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, issued = make_gateway(), make_key()
    if close is end_grace:
        lifecycle.rotate(actor=TESTS, key_id=issued.key.id)
    assert eventually(lambda: holds_lease(plane))
    warm(plane, gateway.value, issued.value)
    reading = clock._reading
    assert reading is not None
    # The console has read the database's clock badly, the gateway's process well.
    monkeypatch.setattr(clock, "_reading", (reading[0], reading[1] + 0.3))
    close(gateway, issued)
    monkeypatch.setattr(clock, "_reading", reading)
    asked = plane.authorize(gateway.value, issued.value)
    assert asked.reason in {"grace_over", "gateway_unknown"}


def test_an_odd_announcement_costs_neither_the_listener_nor_a_count(transactional_db: None) -> None:
    token, issued = make_gateway().value, make_key()
    with running_plane() as plane:
        assert eventually(lambda: holds_lease(plane))
        warm(plane, token, issued.value)
        with Redis.from_url(django_settings.REDIS_URL) as stranger:
            for odd in (b"", b"{}", b'{"answers": "keeptrusts:applied:x", "facts": [["key", 5]]}', b'{"facts": 3}'):
                stranger.publish(CHANNEL, odd)
        key = lifecycle.disable(actor=TESTS, key_id=issued.key.id)
        assert words(key.narrowing).startswith("on 1 of 1 ")
        listening = lease_of(plane)._listening
        assert listening is not None
        assert not listening.done()
        lifecycle.enable(actor=TESTS, key_id=issued.key.id)
        plane.flush()
        before = KeyMetrics.objects.get().total_requests
        assert plane.authorize(token, issued.value).status == 200
    assert KeyMetrics.objects.get().total_requests == before + 1
    assert not GatewayProcess.objects.exists()


def test_a_later_releases_invalidation_drops_everything_and_stops_nobody(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    assert eventually(lambda: holds_lease(plane))
    warm(plane, token, issued.value)
    with transaction.atomic():
        change = Narrowing()
        change.of(Kind.KEY, "of another release")
        Invalidation.objects.update(kind="route")
    assert eventually(lambda: len(lease_of(plane)._memory) == 0)
    assert holds_lease(plane)
    key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert words(key.narrowing).startswith("on 1 of 1 ")


def test_a_lease_that_a_wrong_clock_made_up_is_not_waited_for_without_end(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock was an hour ahead, a process was killed, and the clock was set right."""
    monkeypatch.setattr(enforcement, "LONGEST_LEASE", 0.3)
    until = clock.now() + timedelta(hours=1)
    GatewayProcess.objects.create(host="dead", pid=1, started_at=clock.now(), leased_until=until, applied="1:1:")
    key = lifecycle.revoke(actor=TESTS, key_id=make_key().key.id)
    assert words(key.narrowing).startswith("on 0 of 1 gateway processes in 3")


@pytest.mark.database_clock
def test_a_lease_may_be_longer_than_a_reading_of_the_clock_is_trusted(
    transactional_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "REREAD_AFTER_SECONDS", 0.2)
    settings.KEEPTRUSTS_LEASE_SECONDS = 5
    token, issued = make_gateway().value, make_key()
    with running_plane() as plane:
        assert eventually(lambda: holds_lease(plane))
        warm(plane, token, issued.value)
        with away():
            gone = time.monotonic()
            while time.monotonic() - gone < 1:
                assert plane.authorize(token, issued.value).status == 200


def test_a_process_that_stops_uses_nothing_after_it_has_left(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_plane() as plane:
        assert eventually(lambda: holds_lease(plane))
        lease = lease_of(plane)
        listener = lease._listener
        assert listener is not None
        # It takes its time, in which renewals would go on.
        stop, loop = listener.stop, plane.loop
        monkeypatch.setattr(listener, "stop", lambda: loop.call_later(0.6, stop))
        plane.run(plane.application.close())
        assert not lease.holds()
        assert not GatewayProcess.objects.exists()


def test_what_was_revoked_before_another_failed_is_made_known(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    token, first, second = make_gateway().value, *sorted((make_key(), make_key()), key=lambda issued: issued.key.id)
    assert eventually(lambda: holds_lease(plane))
    for issued in (first, second):
        warm(plane, token, issued.value)
    recorded = []

    def fail_the_second_time(*arguments: object, **more: object) -> None:
        recorded.append(arguments)
        if len(recorded) == 2:
            raise OperationalError("deadlock detected")
        record(*arguments, **more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr("keys.lifecycle.record", fail_the_second_time)
    with pytest.raises(OperationalError):
        bulk.apply_many(actor=TESTS, fix=bulk.Revoke(), key_ids=[first.key.id, second.key.id])
    assert plane.authorize(token, first.value).reason == "key_revoked"
    assert plane.authorize(token, second.value).status == 200

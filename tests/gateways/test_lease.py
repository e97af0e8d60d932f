"""Deciding from memory under a lease: what a change does to it, and what happens when a server goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from django.db import connection, connections, transaction
from pytest_django.fixtures import Settings

from access import tokens
from access.tokens import TokenKind
from audit import clock
from gateways import processes
from gateways.models import GatewayProcess
from gateways.question import read_question
from gateways.registry import edit_gateway, rotate_token
from keys import bulk, lifecycle, sweeps
from keys.groups import edit_group
from keys.installation import edit_policy
from keys.models import GatewayKey, Invalidation
from keys.narrowing import Kind, Narrowing
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.gateways.test_database_away import away
from tests.plane import Plane, question, running_plane
from tests.processes import eventually
from tests.servers import killable_redis, redis

pytestmark = pytest.mark.postgresql

OUTSIDE = {"x_keeptrusts_client_ip": "203.0.113.9"}


@pytest.fixture
def planes(transactional_db: None) -> Iterator[list[Plane]]:
    """Four processes that hold a lease."""
    with ExitStack() as stack:
        planes = [stack.enter_context(running_plane()) for _ in range(4)]
        assert eventually(lambda: all(holds_lease(plane) for plane in planes))
        yield planes


def holds_lease(plane: Plane) -> bool:
    engine = plane.application._engine
    return engine is not None and engine._lease is not None and engine._lease.holds()


def held(plane: Plane) -> int:
    """How many key versions it holds."""
    engine = plane.application._engine
    assert engine is not None
    return len(engine._memory)


def stop_renewing(plane: Plane) -> None:
    """Let the process's lease run out, as one does that hangs or is cut off."""

    async def stopped() -> None:
        engine = plane.application._engine
        assert engine is not None
        assert engine._lease is not None
        for task in (engine._lease._renewing, engine._lease._listener):
            assert task is not None
            task.cancel() if isinstance(task, asyncio.Task) else task.stop()

    plane.run(stopped())


def warm(plane: Plane, token: str, value: str, **asked: str) -> None:
    """Ask until the answer is held: a change that was announced late may still push it out once."""

    def is_held() -> bool:
        plane.authorize(token, value, **asked)
        engine = plane.application._engine
        assert engine is not None
        return engine._memory.recall(read_question(question(token, value, **asked))) is not None

    changes = list(Invalidation.objects.values_list("transaction", flat=True))
    assert eventually(lambda: all(process.applied for process in processes.standing(changes).values()))
    assert eventually(is_held)


def words(change: Narrowing | None) -> str:
    assert change is not None
    assert change.in_force is not None
    return change.in_force.words


def test_what_was_decided_once_is_decided_from_memory(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    unknown = tokens.generate(TokenKind.GATEWAY_KEY)
    assert eventually(lambda: holds_lease(plane))
    warm(plane, token, issued.value)
    warm(plane, token, unknown)
    with away():
        assert plane.authorize(token, issued.value).status == 200
        assert plane.authorize(token, unknown).reason == "key_unknown"
        assert plane.authorize(token, None).reason == "key_missing"
        assert plane.authorize(token, make_up_value()).reason == "undecided"


def make_up_value() -> str:
    return tokens.generate(TokenKind.GATEWAY_KEY)


def test_a_revoked_key_is_refused_on_all_processes_when_revoke_returns(planes: list[Plane]) -> None:
    token, issued = make_gateway().value, make_key()
    for plane in planes:
        warm(plane, token, issued.value)
    key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert [plane.authorize(token, issued.value).reason for plane in planes] == ["key_revoked"] * 4
    assert words(key.narrowing).startswith("on 4 of 4 gateway processes in ")


def by_end_grace(key_id: UUID) -> None:
    lifecycle.rotate(actor=TESTS, key_id=key_id)
    lifecycle.end_grace(actor=TESTS, key_id=key_id)


def by_group_policy(key_id: UUID) -> None:
    group = GatewayKey.objects.get(pk=key_id).consumer_group
    assert group is not None
    changed = {"allowed_networks": ["10.0.0.0/8"]}
    edit_group(actor=TESTS, group_id=group.pk, changed=changed, existing_keys="leave")


def by_policy_of_all(key_id: UUID) -> None:
    edit_policy(actor=TESTS, changed={"allowed_networks": ["10.0.0.0/8"]}, existing_keys="leave")


def by_idle_days(key_id: UUID) -> None:
    group = GatewayKey.objects.get(pk=key_id).consumer_group
    assert group is not None
    edit_group(actor=TESTS, group_id=group.pk, changed={"idle_days": 1})
    with time_machine.travel(clock.now() + timedelta(days=8)):
        assert sweeps.revoke_idle() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda key_id: lifecycle.revoke(actor=TESTS, key_id=key_id), "key_revoked"),
        (lambda key_id: bulk.apply_many(actor=TESTS, fix=bulk.Revoke(), key_ids=[uuid4(), key_id]), "key_revoked"),
        (lambda key_id: lifecycle.disable(actor=TESTS, key_id=key_id), "key_disabled"),
        (by_end_grace, "grace_over"),
        (lambda key_id: lifecycle.rotate(actor=TESTS, key_id=key_id, grace=timedelta(0)), "grace_over"),
        (
            lambda key_id: lifecycle.edit(actor=TESTS, key_id=key_id, changed={"consumer_group": make_group("other")}),
            "group_mismatch",
        ),
        (
            lambda key_id: lifecycle.edit(actor=TESTS, key_id=key_id, changed={"allowed_networks": ["10.0.0.0/8"]}),
            "network_not_allowed",
        ),
        (by_group_policy, "network_not_allowed"),
        (by_policy_of_all, "network_not_allowed"),
        (by_idle_days, "key_revoked"),
    ],
    ids=[
        "revoke",
        "revoke many",
        "disable",
        "end grace",
        "rotate",
        "group",
        "networks",
        "policy",
        "installation",
        "idle",
    ],
)
def test_every_change_of_a_key_holds_when_its_verb_returns(
    plane: Plane, change: Callable[[UUID], object], reason: str
) -> None:
    token = make_gateway().value
    issued = make_key(consumer_group=make_group("payments"))
    asked = {"x_keeptrusts_consumer_group": "payments", **OUTSIDE}
    assert eventually(lambda: holds_lease(plane))
    warm(plane, token, issued.value, **asked)
    assert plane.authorize(token, issued.value, **asked).status == 200
    change(issued.key.id)
    assert plane.authorize(token, issued.value, **asked).reason == reason


def test_a_nearer_expiry_holds_when_edit_returns(plane: Plane) -> None:
    token, issued = make_gateway().value, make_key()
    assert plane.authorize(token, issued.value).status == 200
    soon = clock.now() + timedelta(seconds=0.3)
    lifecycle.edit(actor=TESTS, key_id=issued.key.id, changed={"expires_at": soon})
    assert eventually(lambda: plane.authorize(token, issued.value).reason == "key_expired")


def test_every_change_of_a_gateway_holds_when_its_verb_returns(plane: Plane) -> None:
    gateway, other = make_gateway(), make_group("other")
    issued = make_key(consumer_group=make_group("payments"))
    assert eventually(lambda: holds_lease(plane))
    warm(plane, gateway.value, issued.value)
    assert plane.authorize(gateway.value, issued.value).status == 200
    edit_gateway(actor=TESTS, gateway_id=gateway.gateway.id, changed={"require_group": True})
    assert plane.authorize(gateway.value, issued.value).reason == "group_mismatch"
    edit_gateway(actor=TESTS, gateway_id=gateway.gateway.id, changed={"consumer_groups": [other]})
    assert plane.authorize(gateway.value, issued.value).reason == "gateway_not_allowed"
    rotate_token(actor=TESTS, gateway_id=gateway.gateway.id, overlap=timedelta(0))
    assert plane.authorize(gateway.value, issued.value).reason == "gateway_unknown"


def test_what_is_accepted_again_is_so_when_its_verb_returns(planes: list[Plane]) -> None:
    token, issued = make_gateway().value, make_key()
    lifecycle.disable(actor=TESTS, key_id=issued.key.id)
    assert {plane.authorize(token, issued.value).reason for plane in planes} == {"key_disabled"}
    lifecycle.enable(actor=TESTS, key_id=issued.key.id)
    assert {plane.authorize(token, issued.value).status for plane in planes} == {200}


def test_a_process_that_does_not_listen_is_waited_for_until_its_lease_is_over(planes: list[Plane]) -> None:
    token, issued = make_gateway().value, make_key()
    for plane in planes:
        warm(plane, token, issued.value)
    stop_renewing(planes[2])
    key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert words(key.narrowing).startswith("on 3 of 4 gateway processes in ")
    assert "what the others held is void" in words(key.narrowing)
    # Nothing is in force there by what it holds: it asks the database.
    assert not holds_lease(planes[2])
    assert {plane.authorize(token, issued.value).reason for plane in planes} == {"key_revoked"}


def test_who_asks_for_a_revoke_again_waits_as_well(planes: list[Plane]) -> None:
    """The first time may have been cut off between its commit and the last process's answer."""
    issued = make_key()
    lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    again = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert words(again.narrowing).startswith("on 4 of 4 ")


def test_without_redis_changes_are_read_with_each_renewal(transactional_db: None, settings: Settings) -> None:
    settings.REDIS_URL = ""
    with running_plane() as plane:
        assert eventually(lambda: holds_lease(plane))
        token, issued = make_gateway().value, make_key()
        assert plane.authorize(token, issued.value).status == 200
        key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
        assert plane.authorize(token, issued.value).reason == "key_revoked"
        assert words(key.narrowing).startswith("on 1 of 1 ")


@pytest.mark.needs("redis")
def test_redis_may_go_and_come_back(transactional_db: None, settings: Settings) -> None:
    token = make_gateway().value
    with ExitStack() as stack:
        with redis() as url:
            settings.REDIS_URL = url
            plane = stack.enter_context(running_plane())
            assert eventually(lambda: holds_lease(plane))
            first = make_key()
            warm(plane, token, first.value)
        # Gone; what was decided from memory is decided so still.
        second = make_key()
        warm(plane, token, second.value)
        with no_lookups(plane):
            assert plane.authorize(token, first.value).status == 200
        key = lifecycle.revoke(actor=TESTS, key_id=first.key.id)
        assert plane.authorize(token, first.value).reason == "key_revoked"
        assert words(key.narrowing).startswith("on 1 of 1 ")


@contextmanager
def no_lookups(plane: Plane) -> Iterator[None]:
    """What asks the database for a decision within the block is an error."""
    engine = plane.application._engine
    assert engine is not None
    lookups, engine._lookups = engine._lookups, None  # type: ignore[assignment]  # nothing to ask with
    try:
        yield
    finally:
        engine._lookups = lookups


@pytest.mark.needs("redis")
@pytest.mark.parametrize("redis_is_away_too", [False, True], ids=["PostgreSQL", "PostgreSQL and Redis"])
def test_memory_serves_while_the_lease_lasts_and_not_a_moment_longer(
    transactional_db: None, settings: Settings, redis_is_away_too: bool
) -> None:
    token, issued = make_gateway().value, make_key()
    with ExitStack() as stack, killable_redis() as server:
        settings.REDIS_URL = server.url
        plane = stack.enter_context(running_plane())
        assert eventually(lambda: holds_lease(plane))
        warm(plane, token, issued.value)
        if redis_is_away_too:
            server.kill()
        with away():
            assert plane.authorize(token, issued.value).status == 200
            assert plane.authorize(token, make_up_value()).reason == "undecided"
            assert eventually(lambda: plane.authorize(token, issued.value).reason == "undecided")
            assert not holds_lease(plane)
        # Nobody starts anything again.
        assert eventually(lambda: holds_lease(plane))
        assert plane.authorize(token, issued.value).status == 200


def test_what_changed_while_a_process_was_cut_off_is_known_when_it_is_back(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, issued = make_gateway().value, make_key()
    assert eventually(lambda: holds_lease(plane))
    warm(plane, token, issued.value)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(processes, "renew", refuse)
        # Nor does anybody tell it over Redis.
        assert eventually(lambda: not holds_lease(plane))
        with transaction.atomic():
            change = Narrowing()
            GatewayKey.objects.filter(pk=issued.key.id).update(revoked_at=clock.now())
            change.of(Kind.KEY, issued.key.id)
        assert held(plane) == 1
    assert eventually(lambda: holds_lease(plane))
    assert plane.authorize(token, issued.value).reason == "key_revoked"


def refuse(*_: object, **__: object) -> None:
    raise TimeoutError


def test_a_change_that_commits_late_is_not_missed(transactional_db: None) -> None:
    """Its id is smaller than that of one that was read long ago."""
    process = uuid4()
    early, late = Narrowing(), Narrowing()
    may_commit, written = threading.Event(), threading.Event()

    def write_and_wait() -> None:
        try:
            with transaction.atomic():
                early.of(Kind.KEY, "early")
                written.set()
                may_commit.wait(30)
        finally:
            connections.close_all()

    applied = processes.register(process)
    slow = threading.Thread(target=write_and_wait)
    slow.start()
    assert written.wait(30)
    with transaction.atomic():
        late.of(Kind.KEY, "late")
    assert early.transactions < late.transactions
    first = processes.renew(process, applied=applied, lease=2)
    assert first is not None
    assert [fact.id for fact in first.facts] == ["late"]
    processes.note_applied(process, applied=first.applied)
    assert processes.standing(late.transactions)[process].applied
    assert not processes.standing(early.transactions)[process].applied
    may_commit.set()
    slow.join()
    second = processes.renew(process, applied=first.applied, lease=2)
    assert second is not None
    assert [fact.id for fact in second.facts] == ["early"]
    third = processes.renew(process, applied=second.applied, lease=2)
    assert third is not None
    assert third.facts == ()


def test_a_lease_is_in_the_registry_before_changes_are_read(transactional_db: None) -> None:
    """So a change that this reading misses finds the lease, and waits for it."""
    process = uuid4()
    applied = processes.register(process)
    assert processes.standing([]) == {}
    renewal = processes.renew(process, applied=applied, lease=30)
    assert renewal is not None
    assert renewal.until > clock.elapsed() + 29
    assert 29 < processes.standing([])[process].seconds <= 30


def test_who_is_not_in_the_registry_has_no_lease(transactional_db: None) -> None:
    process = uuid4()
    applied = processes.register(process)
    processes.leave(process)
    assert processes.renew(process, applied=applied, lease=2) is None


def test_a_database_with_another_past_is_no_reason_to_go_on(transactional_db: None) -> None:
    """Restored from a copy, or a standby that took over, it may lack changes, or give their numbers to others."""
    process = uuid4()
    applied = processes.register(process)
    assert processes.renew(process, applied=applied._replace(snapshot="9000000000:9000000000:"), lease=2) is None
    assert processes.renew(process, applied=applied._replace(timeline="0000AFFE"), lease=2) is None
    assert processes.renew(process, applied=applied, lease=2) is not None


def test_who_was_away_for_long_holds_nothing_when_it_is_back(transactional_db: None) -> None:
    """The rows that it has not applied may be gone by then; registered anew it has a lease to ask for."""
    process = uuid4()
    applied = processes.register(process)
    GatewayProcess.objects.update(leased_until=clock.now() - processes.INVALIDATIONS_KEPT)
    assert processes.renew(process, applied=applied, lease=2) is None
    assert processes.renew(process, applied=processes.register(process), lease=2) is not None


def test_rows_are_kept_until_everybody_has_applied_them(transactional_db: None) -> None:
    process, change = uuid4(), Narrowing()
    applied = processes.register(process)
    with transaction.atomic():
        change.of(Kind.KEY, uuid4())
    Invalidation.objects.update(at=clock.now() - 2 * processes.INVALIDATIONS_KEPT)
    renewal = processes.renew(process, applied=applied, lease=30)
    processes.forget()
    assert Invalidation.objects.count() == 1
    assert renewal is not None
    processes.note_applied(process, applied=renewal.applied)
    processes.forget()
    assert Invalidation.objects.count() == 0
    GatewayProcess.objects.update(leased_until=clock.now() - 2 * processes.PROCESSES_KEPT)
    processes.forget()
    assert not GatewayProcess.objects.exists()


def test_a_stopped_process_is_waited_for_by_nobody(transactional_db: None) -> None:
    with running_plane() as plane:
        assert eventually(lambda: holds_lease(plane))
        assert GatewayProcess.objects.count() == 1
    assert GatewayProcess.objects.count() == 0


def test_a_registry_that_cannot_be_read_costs_a_lease(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issued = make_key()
    monkeypatch.setattr(processes, "standing", refuse)
    started = time.monotonic()
    key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert time.monotonic() - started >= 2
    assert words(key.narrowing).startswith("everywhere after 2.")
    assert "every lease is waited for" in caplog.text


def test_with_a_lease_of_nothing_every_decision_asks_the_database(transactional_db: None, settings: Settings) -> None:
    settings.KEEPTRUSTS_LEASE_SECONDS = 0
    with running_plane() as plane:
        token, issued = make_gateway().value, make_key()
        assert plane.authorize(token, issued.value).status == 200
        key = lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
        assert words(key.narrowing) == ""
        assert plane.authorize(token, issued.value).reason == "key_revoked"
        assert not GatewayProcess.objects.exists()
    assert connection.vendor == "postgresql"

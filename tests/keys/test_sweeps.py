"""The jobs record what time has decided, once each, and change no decision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from audit.models import AuditEntry
from keys import lifecycle, sweeps
from keys.groups import edit_group
from keys.installation import edit_policy
from keys.models import GatewayKey, KeyVersion
from keys.status import KeyStatus
from tests.factories import TESTS, make_gateway, make_group, make_key
from usage.models import KeyMetrics
from usage.tallies import Tally, put_off

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def entries(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


def test_an_expiry_is_recorded_once_and_only_when_it_has_passed(clock: time_machine.Traveller) -> None:
    key = make_key(expires_at=START + HOUR).key
    make_key(expires_at=START + 2 * HOUR)
    make_key()
    assert sweeps.expire_due() == 0
    clock.shift(HOUR)
    assert key.status is KeyStatus.EXPIRED, "time decides; no job has run"
    assert sweeps.expire_due() == 1
    assert sweeps.expire_due() == 0
    (entry,) = entries("gateway_key.expired")
    assert (entry.object_id, entry.actor_kind) == (str(key.id), "system")


def test_a_revoked_key_does_not_also_expire(clock: time_machine.Traveller) -> None:
    key = make_key(expires_at=START + HOUR).key
    lifecycle.revoke(actor=TESTS, key_id=key.id)
    clock.shift(2 * HOUR)
    assert sweeps.expire_due() == 0


def test_more_keys_than_a_batch_are_all_recorded(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 3)
    for _ in range(8):
        make_key(expires_at=START + HOUR)
    clock.shift(HOUR)
    assert sweeps.expire_due() == 8
    assert len(entries("gateway_key.expired")) == 8


def test_the_end_of_grace_is_recorded_for_each_version_as_it_comes(clock: time_machine.Traveller) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.id, grace=3 * HOUR)
    lifecycle.rotate(actor=TESTS, key_id=key.id, grace=HOUR)
    assert sweeps.close_due_grace() == 0
    clock.shift(HOUR)
    assert sweeps.close_due_grace() == 1
    key.refresh_from_db()
    assert key.grace_until == START + 3 * HOUR
    clock.shift(2 * HOUR)
    assert sweeps.close_due_grace() == 1
    assert sweeps.close_due_grace() == 0
    key.refresh_from_db()
    assert key.grace_until is None
    assert [entry.detail["versions"] for entry in entries("gateway_key.grace_ended")] == [[2], [1]]
    assert not KeyVersion.objects.filter(valid_until__isnull=False, closed_at__isnull=True).exists()


def test_keys_unused_for_as_long_as_the_policy_says_are_revoked(clock: time_machine.Traveller) -> None:
    group = make_group(idle_days=10)
    unused, used_long_ago, used = (make_key(consumer_group=group).key for _ in range(3))
    elsewhere = make_key(consumer_group=make_group()).key
    KeyMetrics.objects.create(key=used_long_ago, last_used_at=START)
    KeyMetrics.objects.create(key=used, last_used_at=START + 5 * DAY)
    assert sweeps.revoke_idle() == 0
    clock.shift(10 * DAY + HOUR)
    assert sweeps.revoke_idle() == 2
    assert sweeps.revoke_idle() == 0
    assert set(GatewayKey.objects.filter(revoked_at__isnull=False)) == {unused, used_long_ago}
    assert not {used.status, elsewhere.status} & {KeyStatus.REVOKED}
    (entry, _) = entries("gateway_key.revoked")
    assert "10 days" in entry.after["revoke_reason"]
    assert entry.actor_kind == "system"


def test_an_expired_key_is_not_revoked_as_idle(clock: time_machine.Traveller) -> None:
    make_key(consumer_group=make_group(idle_days=10), expires_at=START + DAY)
    clock.shift(20 * DAY)
    assert sweeps.revoke_idle() == 0


# --- idle keys, and the warning before --------------------------------------------------------------------------------


def revoked() -> set[GatewayKey]:
    sweeps.revoke_idle()
    return set(GatewayKey.objects.filter(revoked_at__isnull=False))


def test_a_new_rule_revokes_nobody_before_a_week(clock: time_machine.Traveller) -> None:
    group = make_group()
    key = make_key(consumer_group=group).key
    clock.shift(100 * DAY)
    edit_group(actor=TESTS, group_id=group.pk, changed={"idle_days": 10}, existing_keys="leave")
    assert not revoked()
    clock.shift(7 * DAY - HOUR)
    assert not revoked()
    clock.shift(2 * HOUR)
    assert revoked() == {key}


def test_a_shorter_span_warns_anew_while_the_longer_one_goes_on(clock: time_machine.Traveller) -> None:
    group = make_group(idle_days=90)
    old = make_key(consumer_group=group).key
    clock.shift(60 * DAY)
    edit_group(actor=TESTS, group_id=group.pk, changed={"idle_days": 30}, existing_keys="leave")
    assert not revoked()
    clock.shift(7 * DAY + HOUR)
    assert revoked() == {old}


def test_the_installations_rule_revokes_unscoped_keys_and_says_why(clock: time_machine.Traveller) -> None:
    edit_policy(actor=TESTS, changed={"idle_days": 30})
    key, grouped = make_key().key, make_key(consumer_group=make_group()).key
    KeyMetrics.objects.create(key=key, last_used_at=START + DAY)
    clock.shift(32 * DAY)
    assert revoked() == {key, grouped}
    key.refresh_from_db()
    assert key.revoke_reason.startswith("Unused for 30 days: last used 2026-11-24")
    assert "The installation's policy revokes such keys." in key.revoke_reason
    assert all(entry.actor_kind == "system" for entry in entries("gateway_key.revoked"))


@pytest.mark.parametrize("verb", ["rotate", "enable", "move"])
def test_what_was_done_to_a_key_lately_spares_it_for_a_whole_span(clock: time_machine.Traveller, verb: str) -> None:
    group = make_group(idle_days=10)
    key = make_key(consumer_group=group if verb != "move" else make_group()).key
    clock.shift(9 * DAY)
    match verb:
        case "rotate":
            lifecycle.rotate(actor=TESTS, key_id=key.pk)
        case "enable":
            lifecycle.disable(actor=TESTS, key_id=key.pk)
            lifecycle.enable(actor=TESTS, key_id=key.pk)
        case _:
            lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"consumer_group": group})
    clock.shift(9 * DAY)
    assert not revoked()
    clock.shift(2 * DAY)
    assert revoked() == {key}


def test_a_use_that_is_counted_and_not_yet_added_up_spares_the_key(clock: time_machine.Traveller) -> None:
    group = make_group(idle_days=10)
    key, unused = (make_key(consumer_group=group).key for _ in range(2))
    gateway = make_gateway().gateway
    clock.shift(9 * DAY)
    at = datetime.now(UTC)
    start = int(at.timestamp()) // 300 * 300
    tally = Tally(str(key.pk).encode(), at, requests=1)
    put_off({(start, key.versions.get().pk, group.pk, gateway.pk): tally})
    clock.shift(2 * DAY)
    assert revoked() == {unused}

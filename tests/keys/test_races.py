"""Verbs that meet on one key, with real threads on a real database: one after the other, and nothing in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import transaction

from access.refusals import Conflict
from audit import clock
from audit.models import AuditEntry
from keys import bulk, lifecycle, sweeps
from keys.groups import edit_group
from keys.installation import edit_policy
from keys.issuing import IssuedKey
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.status import KeyStatus
from tests.factories import TESTS, make_group, make_key
from tests.races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_concurrent_rotates_of_one_key_serialise() -> None:
    key = make_key().key
    results = at_once(*[lambda: lifecycle.rotate(actor=TESTS, key_id=key.id) for _ in range(8)])
    assert len({result.value for result in results if isinstance(result, IssuedKey)}) == 8
    assert sorted(KeyVersion.objects.values_list("number", flat=True)) == list(range(1, 10))
    assert KeyVersion.objects.get(valid_until__isnull=True).number == 9
    assert AuditEntry.objects.filter(action="gateway_key.rotated").count() == 8


@pytest.mark.parametrize("attempt", range(5))
def test_a_rotate_that_meets_a_revoke_leaves_no_usable_version(attempt: int) -> None:
    key = make_key().key
    at_once(
        lambda: lifecycle.rotate(actor=TESTS, key_id=key.id, grace=timedelta(hours=1)),
        lambda: lifecycle.revoke(actor=TESTS, key_id=key.id),
        lambda: lifecycle.rotate(actor=TESTS, key_id=key.id, grace=timedelta(hours=1)),
    )
    key = GatewayKey.objects.get()
    assert key.status is KeyStatus.REVOKED
    assert not KeyVersion.objects.filter(valid_until__gt=key.revoked_at).exists()
    assert AuditEntry.objects.filter(action="gateway_key.revoked").count() == 1
    rotated = AuditEntry.objects.filter(action="gateway_key.rotated").count()
    assert KeyVersion.objects.count() == 1 + rotated


def test_two_revokes_at_once_leave_one_entry() -> None:
    key = make_key().key
    at_once(*[lambda: lifecycle.revoke(actor=TESTS, key_id=key.id) for _ in range(4)])
    assert AuditEntry.objects.filter(action="gateway_key.revoked").count() == 1


def test_two_bulk_revokes_of_the_same_keys_in_another_order_do_not_wait_for_each_other() -> None:
    ids = [make_key().key.id for _ in range(30)]

    def revoke(key_ids: list[UUID]) -> None:
        with transaction.atomic():  # as under an Idempotency-Key: all locks until the end
            bulk.apply_many(actor=TESTS, fix=bulk.Revoke(), key_ids=key_ids)

    at_once(lambda: revoke(ids), lambda: revoke(ids[::-1]), lambda: revoke(sorted(ids)))
    assert AuditEntry.objects.filter(action="gateway_key.revoked").count() == len(ids)


def test_sweeps_beside_each_other_record_each_expiry_once() -> None:
    expires_at = clock.now() + timedelta(hours=1)
    keys = [make_key(expires_at=expires_at).key for _ in range(10)]
    with time_machine.travel(expires_at):
        at_once(*[sweeps.expire_due for _ in range(3)])
    assert AuditEntry.objects.filter(action="gateway_key.expired").count() == len(keys)


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize("whose", ["group", "installation"])
def test_a_stricter_policy_that_meets_new_keys_leaves_none_in_breach_unsaid(whose: str, attempt: int) -> None:
    group = make_group()

    def tighten() -> object:
        changed = {"max_lifetime_days": 10}
        if whose == "group":
            return edit_group(actor=TESTS, group_id=group.pk, changed=changed)
        return edit_policy(actor=TESTS, changed=changed)

    def make() -> object:
        try:
            return make_key(consumer_group=group, expires_at=clock.now() + timedelta(days=90))
        except ValidationError as refused:
            return refused

    tightened, *made = at_once(tighten, *[make] * 6)
    late = GatewayKey.objects.filter(expires_at__gt=clock.now() + timedelta(days=11)).count()
    assert late == sum(isinstance(one, IssuedKey) for one in made)
    # Either it came first and nobody was let in, or it saw those who had been and asked.
    assert isinstance(tightened, Conflict) == bool(late)


def test_a_policy_that_aligns_keys_while_they_are_rotated_and_revoked_waits_for_nobody_for_ever() -> None:
    group = make_group()
    keys = [make_key(consumer_group=group, expires_at=None).key for _ in range(8)]

    def tighten() -> object:
        with transaction.atomic():  # as in the console, whose form is one transaction
            return edit_group(actor=TESTS, group_id=group.pk, changed={"max_lifetime_days": 10}, existing_keys="align")

    def busy(key: GatewayKey) -> Callable[[], object]:
        def run() -> object:
            lifecycle.rotate(actor=TESTS, key_id=key.pk)
            return lifecycle.disable(actor=TESTS, key_id=key.pk)

        return run

    at_once(tighten, *[busy(key) for key in keys[:4]])
    live = GatewayKey.objects.filter(expires_at__isnull=True)
    assert not live.exists()


def test_idle_keys_are_revoked_once_however_many_workers_look() -> None:
    group = make_group(idle_days=1)
    with time_machine.travel(clock.now() - timedelta(days=40), tick=False):
        keys = [make_key(consumer_group=group).key for _ in range(6)]
    GatewayKey.objects.update(created_at=clock.now() - timedelta(days=40))
    ConsumerGroup.objects.update(idle_since=clock.now() - timedelta(days=30))
    done = at_once(*[sweeps.revoke_idle] * 4)
    assert sum(one for one in done if isinstance(one, int)) == len(keys)
    assert AuditEntry.objects.filter(action="gateway_key.revoked").count() == len(keys)

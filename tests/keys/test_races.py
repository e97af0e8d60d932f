"""Verbs that meet on one key, with real threads on a real database: one after the other, and nothing in between."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from django.db import transaction

from audit import clock
from audit.models import AuditEntry
from keys import bulk, lifecycle, sweeps
from keys.issuing import IssuedKey
from keys.models import GatewayKey, KeyVersion
from keys.status import KeyStatus
from tests.factories import TESTS, make_key
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

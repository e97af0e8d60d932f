"""Verbs of many clients that meet on one key: one after the other, one current version, none usable after revoke."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from access.refusals import Conflict
from keys import bulk, lifecycle
from keys.issuing import IssuedKey
from keys.models import GatewayKey, KeyVersion
from keys.status import KeyStatus
from tests.factories import TESTS, make_gateway, make_key
from tests.faults.conftest import Fault
from tests.faults.plant import disagreements
from tests.plane import Plane, running_plane
from tests.races import at_once

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

CLIENTS = 50


def rotate(key_id: UUID) -> object:
    return lifecycle.rotate(actor=TESTS, key_id=key_id, grace=timedelta(hours=random.choice([0, 1])))


def revoke(key_id: UUID) -> object:
    return lifecycle.revoke(actor=TESTS, key_id=key_id)


def revoke_many(key_ids: list[UUID]) -> object:
    random.shuffle(key_ids)
    return bulk.apply_many(actor=TESTS, fix=bulk.Revoke(), key_ids=key_ids)


@pytest.mark.fault("races", short=3, full=40)
def test_verbs_that_meet_leave_one_current_version_and_none_after_revoke(fault: Fault) -> None:
    done: Counter[str] = Counter()
    token = make_gateway().value
    with running_plane() as plane:
        for number in range(fault.rounds):
            _round(fault, plane, token, number, done)
    fault.wrong += disagreements()
    fault.notes.append(", ".join(f"{count} {what}" for what, count in sorted(done.items())))


def _round(fault: Fault, plane: Plane, token: str, number: int, done: Counter[str]) -> None:
    """Let fifty clients meet: all rotate; rotate and revoke; or bulk changes beside single ones."""
    kind = number % 3
    keys = [make_key() for _ in range(1 if kind < 2 else 5)]
    ids = [issued.key.pk for issued in keys]
    verbs: list[Callable[[], object]] = []
    for client in range(CLIENTS):
        key_id = ids[client % len(ids)]
        if kind == 2 and client % 5 == 0:
            verbs.append(partial(revoke_many, list(ids)))
        elif kind and client % 10 == 9:
            verbs.append(partial(revoke, key_id))
        else:
            verbs.append(partial(rotate, key_id))
    random.shuffle(verbs)
    results = at_once(*verbs)
    fault.tried += len(results)
    rotated = [result for result in results if isinstance(result, IssuedKey)]
    done["rotated"] += len(rotated)
    done["refused with a conflict"] += sum(isinstance(result, Conflict) for result in results)
    done["revoke calls"] += sum(isinstance(result, GatewayKey | list) for result in results)
    for issued in keys:
        key = GatewayKey.objects.get(pk=issued.key.pk)
        won = [result for result in rotated if result.key.pk == key.pk]
        numbers = sorted(KeyVersion.objects.filter(key=key).values_list("number", flat=True))
        fault.expect(numbers == list(range(1, len(won) + 2)), f"{len(won)} rotates made the versions {numbers}")
        newest = max(won, key=lambda result: result.version.number, default=issued)
        if kind == 0:
            fault.expect(plane.authorize(token, newest.value).status == 200, "the current version is refused")
            continue
        fault.expect(key.status is KeyStatus.REVOKED, "revoked, and it is not")
        for result in (issued, *won):
            fault.expect(plane.authorize(token, result.value).reason == "key_revoked", "usable after revoke")

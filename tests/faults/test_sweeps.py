"""Two beats, four workers, and kill -9 of workers during sweeps: each due key expires once, and is told of once."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest

from audit import clock
from audit.models import AuditEntry
from keys.models import GatewayKey
from tests.factories import make_key
from tests.faults.conftest import Fault
from tests.faults.plant import Plant, disagreements
from tests.processes import eventually
from tests.webhooks.makers import make_endpoint
from webhooks.endpoints import LookedUp
from webhooks.models import Notice

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(900)]

WORKERS = 4
DUE = 60
SWEEP = "keys.tasks.expire_keys"


@pytest.mark.fault("sweeps", full=50)
def test_each_due_key_expires_once(fault: Fault, plant: Plant) -> None:
    make_endpoint(url="https://nobody.invalid/", looked_up=LookedUp("https://nobody.invalid/"))
    for number in (1, 2):
        plant.beat(number).start()
    workers = [plant.worker() for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    due: list[str] = []
    for _ in fault.goes_on():
        soon = clock.now() + timedelta(seconds=1.5)
        due += [str(make_key(expires_at=soon).key.pk) for _ in range(DUE)]
        before = _recorded()
        time.sleep(max(0, (soon - clock.now()).total_seconds()))
        plant.send(*[SWEEP] * WORKERS)
        # In the middle: some are recorded, most are not.
        eventually(partial(_is_more_than, before), 10)
        time.sleep(random.uniform(0, 0.05))
        victim = workers[fault.tried % WORKERS]
        victim.kill()
        victim.start()
        fault.tried += 1
    unrecorded = GatewayKey.objects.filter(pk__in=due, expiry_recorded_at__isnull=True)
    fault.expect(bool(eventually(lambda: not unrecorded.exists(), 60)), "keys are due and nobody records it")
    plant.__exit__(None, None, None)
    entries = Counter(
        AuditEntry.objects.filter(action="gateway_key.expired", object_id__in=due).values_list("object_id", flat=True)
    )
    fault.wrong += [f"{key_id} has {entries[key_id]} entries of its expiry" for key_id in due if entries[key_id] != 1]
    told = Counter(
        str(key_id) for key_id in Notice.objects.filter(type="gateway_key.expired").values_list("key_id", flat=True)
    )
    fault.wrong += [f"{key_id} has {told[key_id]} notices of its expiry" for key_id in due if told[key_id] != 1]
    fault.wrong += disagreements()
    fault.notes.append(
        f"{len(due)} keys were due, {sum(entries.values())} expiries recorded, {sum(told.values())} notices queued"
    )


def _recorded() -> int:
    return GatewayKey.objects.filter(expiry_recorded_at__isnull=False).count()


def _is_more_than(before: int) -> bool:
    return _recorded() > before

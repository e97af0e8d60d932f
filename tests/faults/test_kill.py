"""kill -9 of web or worker in the middle of create, rotate, revoke: change and entry are both there, or neither."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from keys.models import GatewayKey, KeyVersion
from tests.faults.conftest import Fault
from tests.faults.plant import Caller, Plant, Web, disagreements
from tests.processes import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(900)]

CLIENTS = 4
WEBS = 2
SWEEPS = ("keys.tasks.expire_keys", "keys.tasks.close_grace_periods", "audit.tasks.seal")


class Changes:
    """What clients were told that it is done, and how often they were told nothing."""

    def __init__(self, webs: list[Web], access_key: str) -> None:
        self._webs = webs
        self.client = httpx.Client(timeout=20, headers={"Authorization": f"Bearer {access_key}"})
        self.done: list[tuple[str, str, int]] = []
        self.unanswered = 0
        self.unexpected: list[str] = []

    def live(self) -> None:
        """Create a key, rotate it once or twice, and revoke it: as far as the web process lives."""
        soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
        some = random.random() < 0.3
        made = self._post("", {"name": "a key", "expires_at": soon if some else None})
        if made is None:
            return
        key_id = made["id"]
        self.done.append(("created", key_id, 1))
        if some:
            return
        for _ in range(random.randint(1, 2)):
            rotated = self._post(f"{key_id}/rotate/", {"grace_seconds": random.choice([0, 1, 3_600])})
            if rotated is not None:
                self.done.append(("rotated", key_id, max(version["number"] for version in rotated["versions"])))
        if self._post(f"{key_id}/revoke/", {"reason": "the end"}) is not None:
            self.done.append(("revoked", key_id, 0))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        base = random.choice(self._webs).base
        try:
            answer = self.client.post(f"{base}/api/v1/gateway-keys/{path}", json=body)
        except httpx.TransportError:
            self.unanswered += 1
            time.sleep(0.05)
            return None
        if answer.status_code not in {200, 201}:
            self.unexpected.append(f"{path or 'create'}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer.json()


@pytest.mark.fault("kill", full=200)
def test_every_change_has_its_entry_and_every_entry_its_change(fault: Fault, plant: Plant) -> None:
    webs = [plant.web().start_and_wait() for _ in range(WEBS)]
    worker = plant.worker()
    worker.start()
    changes = Changes(webs, plant.admin)
    clients = [Caller(changes.live) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    killed: Counter[str] = Counter()
    for number in fault.goes_on():
        if number % 4 == 3:
            # Three times, so that there is something to be in the middle of.
            plant.send(*SWEEPS * 3)
            time.sleep(random.uniform(0, 0.5))
            worker.kill()
            worker.start()
            killed["worker"] += 1
        else:
            web = webs[number % WEBS]
            fault.expect(bool(eventually(web.answers, 60)), "a web process did not come back")
            time.sleep(random.uniform(0, 0.3))
            web.kill()
            web.start()
            killed["web"] += 1
        fault.tried += 1
    for client in clients:
        client.stop()
    changes.client.close()
    plant.__exit__(None, None, None)
    fault.wrong += changes.unexpected
    fault.wrong += _lost(changes) + disagreements()
    fault.notes.append(
        f"web killed {killed['web']} times, worker {killed['worker']}; {len(changes.done)} changes answered, "
        f"{changes.unanswered} not, {GatewayKey.objects.count()} keys"
    )


def _lost(changes: Changes) -> list[str]:
    """Return what clients were told is done, and is not."""
    keys = {str(key.pk): key for key in GatewayKey.objects.all()}
    versions = {(str(key_id), number) for key_id, number in KeyVersion.objects.values_list("key_id", "number")}
    return [
        f"{verb} {key_id} was answered, and is lost"
        for verb, key_id, number in changes.done
        if key_id not in keys
        or (verb == "rotated" and (key_id, number) not in versions)
        or (verb == "revoked" and keys[key_id].revoked_at is None)
    ]

"""Web hosts whose clocks are an hour ahead and an hour behind decide by the database's."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from audit import clock
from keys import lifecycle
from tests.factories import TESTS, make_gateway, make_key
from tests.faults.conftest import Fault
from tests.faults.plant import Plant, Web
from tests.programs import find_program

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(900), pytest.mark.needs("faketime")]

CLIENTS = 8


def keys_near_the_hour() -> list[tuple[str, int, str | None]]:
    """Return values with the only right answer to each: status and reason."""
    now = datetime.now(UTC)
    with clock.standing_at(now - timedelta(hours=3)):
        over = make_key(expires_at=now - timedelta(minutes=30)).value
        in_grace, ended = make_key(), make_key()
    with clock.standing_at(now - timedelta(hours=1)):
        kept = lifecycle.rotate(actor=TESTS, key_id=in_grace.key.pk, grace=timedelta(minutes=90)).value
        replaced = lifecycle.rotate(actor=TESTS, key_id=ended.key.pk, grace=timedelta(minutes=30)).value
    return [
        (make_key(expires_at=now + timedelta(minutes=30)).value, 200, None),
        (make_key().value, 200, None),
        (over, 401, "key_expired"),
        (in_grace.value, 200, None),
        (kept, 200, None),
        (ended.value, 401, "grace_over"),
        (replaced, 200, None),
    ]


@pytest.mark.fault("clocks", short=200, full=10_000)
def test_a_wrong_clock_decides_nothing(fault: Fault, plant: Plant) -> None:
    program = str(find_program("faketime"))
    # The clocks that only ever go on are no host's setting.
    apart = {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    hosts = [plant.web(prefix=[program, "-m", "-f", by], **apart).start_and_wait() for by in ("+1h", "-1h")]
    token, cases = make_gateway().value, keys_near_the_hour()
    fault.wrong += [f"the clock of {host.base} was not moved" for host in hosts if not _is_moved(host)]
    answers: Counter[str] = Counter()

    def ask(number: int) -> None:
        value, status, reason = cases[number % len(cases)]
        answer = client.get(
            f"{hosts[number // len(cases) % 2].base}/gateway/v1/authorize",
            headers={"X-Keeptrusts-Gateway-Token": token, "Authorization": f"Bearer {value}"},
        )
        said = (answer.status_code, answer.headers.get("X-Keeptrusts-Reason"))
        answers[said[1] or "allowed"] += 1
        fault.expect(said == (status, reason), f"{said} instead of {(status, reason)}")

    with httpx.Client(timeout=20) as client, ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, range(fault.rounds)))
    fault.tried = fault.rounds
    fault.notes.append("hosts at +1 h and -1 h: " + ", ".join(f"{n} {what}" for what, n in sorted(answers.items())))


def _is_moved(host: Web) -> bool:
    """Say whether that host's own clock is off: its answers carry the time."""
    told = httpx.get(host.base + "/healthz").headers["date"]
    at = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return abs(abs(at - datetime.now(UTC)) - timedelta(hours=1)) < timedelta(minutes=1)

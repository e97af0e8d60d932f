"""A thousand secrets, each put in wrong places of a console that runs: none is kept anywhere.

The console, the wrong places, and where is looked are those of tests/test_end_to_end.py.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from access import tokens
from access.tokens import TokenKind
from tests.faults.conftest import Fault
from tests.test_end_to_end import (
    Live,
    careless_automation,
    careless_gateway,
    careless_sign_in,
    database_url,
    exports_are_clean,
    kept_in,
    live,
    places_of,
)

__all__ = ["database_url", "live"]

pytestmark = pytest.mark.timeout(900)

CLIENTS = 4


@pytest.mark.fault("canaries", full=1_000)
def test_what_is_said_in_the_wrong_place_is_kept_nowhere(fault: Fault, live: Live) -> None:
    token = live.api("POST", "/gateways/", {"name": "canaries"})["token"]

    def sing(number: int) -> None:
        if number % 2:
            canary = live.api("POST", "/gateway-keys/", {"name": f"bird {number}"})["value"]
            live.authorize(token, canary)
        else:
            canary = tokens.generate(TokenKind.GATEWAY_KEY)
            live.canaries.append(canary)
        careless_gateway(live, token, canary)
        if number % 4 < 2:
            careless_automation(live, canary)
        if random.random() < 0.1:
            careless_sign_in(live, canary)

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(sing, range(fault.rounds)))
    exports_are_clean(live)
    places = places_of(live)
    for canary in set(live.canaries):
        fault.tried += 1
        fault.wrong += [f"kept in {place}" for place in kept_in(places, canary)]
    size = sum(map(len, places.values()))
    fault.notes.append(f"{len(places)} places, {size:,} bytes searched, in three forms each")
    fault.expect(any(b"kt_gk_" in content for content in places.values()), "the search does not see hints")
    fault.expect(fault.tried >= fault.rounds, "canaries are missing")

"""What a client of each gateway gets, whatever happens behind it; the table in docs/gateways.md says the same."""

from __future__ import annotations

import os

import pytest

from tests.gateways.real.conftest import Observe, each_gateway
from tests.gateways.real.gateways import NAMES
from tests.gateways.real.situations import SITUATIONS, Situation, table
from tests.processes import ROOT

DOCUMENT = ROOT / "docs" / "gateways.md"
BEGIN, END = "<!-- the table: begin -->\n", "<!-- the table: end -->\n"


@each_gateway()
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.title)
def test_the_client_gets(name: str, situation: Situation, observed: Observe) -> None:
    seen = observed(name, situation)
    assert seen.answer.status == situation.status_of(name)
    assert seen.passed is situation.passes
    headers = seen.answer.headers
    if situation.reason:
        assert headers["x-keeptrusts-reason"] == situation.reason
    if seen.answer.status == 401 and not situation.passes:
        # RFC 9110 §15.5.2: whoever is refused so is told how to do better.
        assert headers["www-authenticate"].startswith('Bearer realm="keeptrusts"')
    if situation.reason == "undecided":
        assert headers["retry-after"] == "1"


@pytest.mark.needs(*NAMES)
def test_the_table_in_the_documentation_is_what_was_observed(observed: Observe) -> None:
    """KEEPTRUSTS_TEST_WRITE_MATRIX=1 writes it there."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    documented, after = rest.split(END)
    found = "\n" + table(observed) + "\n"
    if os.environ.get("KEEPTRUSTS_TEST_WRITE_MATRIX"):
        DOCUMENT.write_text(before + BEGIN + found + END + after)
    else:
        assert documented == found

"""What every row of the fault table has: its size, and the one line that says what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.plant import Plant

# Seconds, after which no round begins; the rest of a quarter of an hour is for looking at what came of it.
LONGEST = 660.0


@dataclass
class Fault:
    """rounds: how often it is tried, in this run. wrong: what should not have been, each in a few words."""

    row: str
    rounds: int
    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def goes_on(self) -> Iterator[int]:
        """Count the rounds, and end before the row's time is over: its line says of how many it is short."""
        began = time.monotonic()
        for number in range(self.rounds):
            if time.monotonic() - began > LONGEST:
                self.notes.append(f"stopped after {number} of {self.rounds} rounds: its time was over")
                return
            yield number

    def expect(self, right: bool, otherwise: str) -> None:
        """Keep what is wrong, and go on: a row says how often, not only that."""
        if not right:
            self.wrong.append(otherwise)

    def line(self, seconds: float) -> str:
        said = "".join(f"; {note}" for note in self.notes)
        return f"{self.row}: {self.tried} tried, {len(self.wrong)} wrong{said} ({seconds:.0f} s)"


@pytest.fixture
def fault(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Fault]:
    marker = request.node.get_closest_marker("fault")
    full = request.config.getoption("--faults") is not None
    fault = Fault(marker.args[0], marker.kwargs["full" if full else "short"])
    began = time.monotonic()
    yield fault
    if full:
        with capsys.disabled():
            print(f"\n{fault.line(time.monotonic() - began)}", flush=True)
    assert fault.tried > 0
    assert fault.wrong[:20] == []


@pytest.fixture
def plant(transactional_db: None, tmp_path: Path) -> Iterator[Plant]:
    """Programs on the test's own database; all of them are gone before it is emptied."""
    with Plant(tmp_path) as plant:
        yield plant

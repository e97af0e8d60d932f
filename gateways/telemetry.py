"""What a process counts of its own answers, for those who watch it: added up in memory, read when somebody asks.

No question pays for more than two readings of a clock and three sums; what can be worked out afterwards is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from gateways.decision import Reason

ALLOWED: Final = "allowed"
# Upper bounds of the histogram, seconds: from memory it takes tens of microseconds, from the database milliseconds.
BOUNDS: Final = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)

now = perf_counter


@dataclass(slots=True)
class Telemetry:
    """Counts since the process began. decisions: by reason, None where it was allowed.

    latency: how many decisions took up to each of BOUNDS, the last one: longer. asked: how many took the database;
    tokenless: how many had no gateway token, so that nobody was asked. lease, held: what the running engine says of
    itself when it is asked.
    """

    decisions: dict[Reason | None, int] = field(default_factory=lambda: dict.fromkeys((None, *Reason), 0))
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    latency_sum: float = 0.0
    asked: int = 0
    tokenless: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    lease: Callable[[], bool] | None = None
    held: Callable[[], int] | None = None

    def decided(self, reason: Reason | None, began: float) -> None:
        """Count one answer of authorize. began: `now()` when the question came."""
        took = perf_counter() - began
        self.decisions[reason] += 1
        self.latency_sum += took
        self.latency[bisect_left(BOUNDS, took)] += 1

    def ingested(self, *, accepted: int, duplicates: int, rejected: int) -> None:
        """Count what became of the events of one report."""
        self.accepted += accepted
        self.duplicates += duplicates
        self.rejected += rejected

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON can hold it. lease: None where this process never holds one."""
        return {
            "decisions": {reason.value if reason else ALLOWED: count for reason, count in self.decisions.items()},
            "latency": list(self.latency),
            "latency_sum": self.latency_sum,
            "asked": self.asked,
            "tokenless": self.tokenless,
            "events": {"accepted": self.accepted, "duplicates": self.duplicates, "rejected": self.rejected},
            "lease": self.lease() if self.lease else None,
            "held": self.held() if self.held else 0,
        }


# One for the process: its event loops, if it has several, add to the same sums.
TELEMETRY: Final = Telemetry()

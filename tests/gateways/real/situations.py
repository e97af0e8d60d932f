"""What can happen to a client's request, and what every gateway makes of it. The table in docs/gateways.md is this one,
filled in with what was observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from tests.gateways.real.gateways import NAMES, Answer, Gateway
from tests.gateways.real.servers import Application, Script, Scripted

_numbers = count(1)


@dataclass(frozen=True)
class Situation:
    """status: what the client gets, of each gateway the same or by its name; reason: what else it is told.

    passes: the application is asked; asks: whom the gateway asks (conftest.py); key: whose value the client sends;
    script: what a scripted authorize answers.
    """

    title: str
    status: int | dict[str, int]
    reason: str = ""
    passes: bool = False
    asks: str = "console"
    key: str | None = "good"
    target: str = "/v1/chat"
    script: Script = field(default_factory=Script)

    def status_of(self, gateway: str) -> int:
        return self.status if isinstance(self.status, int) else self.status[gateway]


UNDECIDED = {"Retry-After": "1", "X-Keeptrusts-Reason": "undecided"}

SITUATIONS = [
    Situation("a good key", 200, passes=True),
    Situation("a good key, on a route of its group", 200, passes=True, key="search", target="/search/v1"),
    Situation("a good key, from one of its networks", 200, passes=True, key="loopback"),
    Situation("no key", 401, "key_missing", key=None),
    Situation("not the shape of a key", 401, "key_malformed", key="malformed"),
    Situation("an unknown key", 401, "key_unknown", key="unknown"),
    Situation("a revoked key", 401, "key_revoked", key="revoked"),
    Situation("a key of another group than the route's", 403, "group_mismatch", key="checkout", target="/search/v1"),
    Situation("a key for other networks", 403, "network_not_allowed", key="elsewhere"),
    Situation("a gateway token that is not accepted", 403, "gateway_unknown", asks="console, as a stranger"),
    Situation("Keeptrusts answers 429", 429, asks="script", script=Script(429, {"Retry-After": "7"})),
    Situation("Keeptrusts answers 503", 503, "undecided", asks="script", script=Script(503, UNDECIDED, b"why")),
    Situation(
        "something else answers, with 500",
        {"nginx": 503, "envoy": 503, "caddy": 500},
        asks="script",
        script=Script(500),
    ),
    Situation(
        "something else answers, with 404",
        {"nginx": 503, "envoy": 404, "caddy": 404},
        asks="script",
        script=Script(404),
    ),
    Situation("Keeptrusts does not answer", 503, "undecided", asks="script", script=Script(hangs=True)),
    Situation("Keeptrusts refuses the connection", 503, "undecided", asks="nobody"),
    Situation("the application answers 401 itself", 401, passes=True, target="/answer/401"),
    Situation("the application answers 403 itself", 403, passes=True, target="/answer/403"),
    Situation("the application answers 500 itself", 500, passes=True, target="/answer/500"),
    Situation("the application answers 503 itself", 503, passes=True, target="/answer/503"),
    Situation(
        "the application refuses the connection",
        {"nginx": 502, "envoy": 503, "caddy": 502},
        asks="console, for nothing",
    ),
]


@dataclass
class Observed:
    """What became of one request in one situation."""

    answer: Answer
    passed: bool

    @property
    def cell(self) -> str:
        """Say it in a cell of the table."""
        headers = self.answer.headers
        words = [str(self.answer.status)]
        if reason := headers.get("x-keeptrusts-reason"):
            words.append(f"`{reason}`")
        if "www-authenticate" in headers:
            words.append("challenge")
        if seconds := headers.get("retry-after"):
            words.append(f"retry after {seconds} s")
        return ", ".join(words)


def observe(
    situation: Situation, gateway: Gateway, keys: dict[str, str], application: Application, scripted: Scripted
) -> Observed:
    """Send the request of this situation and see what comes of it."""
    scripted.script = situation.script
    target = f"{situation.target}?number={next(_numbers)}"
    answer = gateway.ask(target, keys[situation.key] if situation.key else None)
    return Observed(answer, application.last(target) is not None)


def table(observed: Callable[[str, Situation], Observed]) -> str:
    """Return the table of the documentation."""
    lines = ["| what happens | " + " | ".join(NAMES) + " | application asked |", "|---" * (len(NAMES) + 2) + "|"]
    for situation in SITUATIONS:
        cells = [observed(name, situation) for name in NAMES]
        asked = {True: "yes", False: "no"}[any(each.passed for each in cells)]
        lines.append(f"| {situation.title} | " + " | ".join(each.cell for each in cells) + f" | {asked} |")
    return "\n".join(lines) + "\n"

"""What became of a key's revocation: who refuses it since when, and who still sends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from audit import clock
from gateways import processes
from gateways.models import GatewayProcess
from keys.models import GatewayKey, Invalidation
from keys.narrowing import Kind
from usage.figures import figures, of_key
from usage.models import Outcome, UsageEvent

# So many of the latest events are told apart by address and gateway; so many rows are shown.
EVENTS_READ: Final = 5_000
ROWS_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Refusing:
    """A process that answers gateways. since: from when on it refuses the key for certain; None = not yet known to."""

    process: GatewayProcess
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Sender:
    """An address from which the key still comes, by one gateway. count: among the events that were read."""

    address: str | None
    gateway: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Aftermath:
    """holds_nothing: no process decides by anything but the database itself. denials: exact, in steps of five minutes.

    events: how many the senders are told from; fewer than denials where only a sample of events is kept.
    """

    key: GatewayKey
    at: datetime
    holds_nothing: bool
    refusing: tuple[Refusing, ...]
    denials: int
    events: int
    senders: tuple[Sender, ...]
    more_senders: int

    @property
    def refused_by(self) -> int:
        return sum(one.since is not None for one in self.refusing)

    @property
    def is_sample(self) -> bool:
        return self.events < self.denials

    @property
    def last_at(self) -> datetime | None:
        return max((sender.last_at for sender in self.senders), default=None)


def aftermath(key: GatewayKey, revoked_at: datetime) -> Aftermath:
    """Return what is known now of a key that was revoked at `revoked_at`."""
    now = clock.now()
    holds_nothing = connection.vendor != "postgresql"
    events = list(
        UsageEvent.objects.filter(key=key, outcome=Outcome.DENIED, occurred_at__gte=revoked_at)
        .order_by("-occurred_at", "-id")
        .values_list("client_ip", "gateway__name", "occurred_at")[:EVENTS_READ]
    )
    senders = _told_apart(events)
    return Aftermath(
        key=key,
        at=now,
        holds_nothing=holds_nothing,
        refusing=() if holds_nothing else tuple(_refusing(key, revoked_at)),
        # A bucket may be behind the events by one flush, never for long; never fewer than were seen.
        denials=max(figures(of_key(key.pk), window=now - revoked_at, at=now).denials, len(events)),
        events=len(events),
        senders=tuple(senders[:ROWS_SHOWN]),
        more_senders=max(0, len(senders) - ROWS_SHOWN),
    )


def _refusing(key: GatewayKey, revoked_at: datetime) -> Iterable[Refusing]:
    # Rows that are gone were applied by everybody; who registers later reads the database.
    changes = Invalidation.objects.filter(kind=Kind.KEY.value, object_id=str(key.pk))
    standing = processes.standing(list(changes.values_list("transaction", flat=True)))
    for process in GatewayProcess.objects.filter(pk__in=standing).order_by("host", "pid"):
        since = max(revoked_at, process.started_at) if standing[process.pk].applied else None
        yield Refusing(process, since)


def _told_apart(events: Iterable[tuple[str | None, str, datetime]]) -> list[Sender]:
    """Return the senders, the latest first; the events come so, too."""
    counts: dict[tuple[str | None, str], int] = {}
    last: dict[tuple[str | None, str], datetime] = {}
    for address, gateway, at in events:
        counts[address, gateway] = counts.get((address, gateway), 0) + 1
        last.setdefault((address, gateway), at)
    return [Sender(*who, count, last[who]) for who, count in counts.items()]

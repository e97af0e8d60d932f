"""How events get into the database: each once, by its identity, however often it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple, cast
from uuid import UUID

from usage.models import Outcome, UsageEvent
from usage.raw import insert, instant


class NewEvent(NamedTuple):
    """A row of UsageEvent before it has an id; the names are those of the columns."""

    gateway_id: UUID
    event_id: str
    occurred_at: datetime
    received_at: datetime
    outcome: Outcome
    reason: str = ""
    key_id: UUID | None = None
    version_id: int | None = None
    consumer_group_id: int | None = None
    decision_id: str = ""
    status: int | None = None
    latency_ms: int | None = None
    method: str = ""
    path: str = ""
    client_ip: str | None = None
    provider: str = ""
    model: str = ""
    operation: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None

    @property
    def identity(self) -> Identity:
        return self.gateway_id, self.event_id, self.occurred_at


type Identity = tuple[UUID, str, datetime]

_ONCE: Final = "ON CONFLICT (gateway_id, event_id, occurred_at) DO NOTHING RETURNING gateway_id, event_id, occurred_at"


def insert_new(events: Iterable[NewEvent]) -> set[Identity]:
    """Write those of `events` that are not there yet, in the caller's transaction, and return which they were.

    The events have distinct identities. All writers insert in the order of these, so that no two wait for each other.
    """
    in_order = sorted(events, key=_order)
    new = insert(UsageEvent, NewEvent._fields, in_order, _ONCE)
    return {
        (UUID(str(gateway_id)), event_id, cast(datetime, instant(occurred_at)))
        for gateway_id, event_id, occurred_at in new
    }


def _order(event: NewEvent) -> tuple[UUID, str, datetime]:
    return event.identity

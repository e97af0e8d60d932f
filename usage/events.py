"""How events get into the database: each once, by its identity, however often it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import batched
from typing import Final, NamedTuple, cast
from uuid import UUID

from django.db import connection

from usage.models import Outcome, UsageEvent
from usage.raw import ROWS_A_STATEMENT, instant, values_clause


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

_TABLE: Final = UsageEvent._meta.db_table
_INSERT: Final = f"INSERT INTO {_TABLE} ({', '.join(NewEvent._fields)}) VALUES "  # noqa: S608  # names of ours alone
_ONCE: Final = " ON CONFLICT (gateway_id, event_id, occurred_at) DO NOTHING RETURNING gateway_id, event_id, occurred_at"


def insert_new(events: Iterable[NewEvent]) -> set[Identity]:
    """Write those of `events` that are not there yet, in the caller's transaction, and return which they were.

    The events have distinct identities. All writers insert in the order of these, so that no two wait for each other.
    """
    new: set[Identity] = set()
    for rows in batched(sorted(events, key=_order), ROWS_A_STATEMENT):
        values, parameters = values_clause(rows)
        with connection.cursor() as cursor:
            cursor.execute(_INSERT + values + _ONCE, parameters)
            new.update(
                (UUID(str(gateway_id)), event_id, cast(datetime, instant(occurred_at)))
                for gateway_id, event_id, occurred_at in cursor.fetchall()
            )
    return new


def _order(event: NewEvent) -> tuple[UUID, str, datetime]:
    return event.identity

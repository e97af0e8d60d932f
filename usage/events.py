"""How events get into the database: each once, by its identity, however often it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from django.db import connection

from usage.models import Outcome, UsageEvent
from usage.raw import identity, insert, instant


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
    stated_group: str | None = None
    provider: str = ""
    model: str = ""
    operation: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None

    @property
    def identity(self) -> Identity:
        return self[:3]


type Identity = tuple[UUID, str, datetime]

_COLUMNS: Final = ", ".join(NewEvent._fields)
_ONCE: Final = "ON CONFLICT (gateway_id, event_id, occurred_at) DO NOTHING RETURNING gateway_id, event_id, occurred_at"
# Named after its columns: behind a pooler a connection, with its tables, outlives a deployment that adds one.
INCOMING: Final = f"usage_incoming_{crc32(_COLUMNS.encode()):08x}"
# No vacuum reaches a connection's own tables: of a connection that lives for months, one would hold up the freezing of
# the whole database's transaction ids. Truncated now and then, it is as good as new.
TRUNCATED_EVERY: Final = 1_000


def insert_new(events: Iterable[NewEvent]) -> list[NewEvent]:
    """Write those of `events` that are not there yet, in the caller's transaction, and return which they were.

    The events have distinct identities. All writers insert in the order of these, so that no two wait for each other.
    """
    in_order = sorted(events, key=attrgetter("identity"))
    if not in_order:
        return []
    if connection.vendor == "postgresql":
        return _copied(in_order)
    return _among(in_order, insert(UsageEvent, NewEvent._fields, in_order, _ONCE))


def _copied(in_order: list[NewEvent]) -> list[NewEvent]:
    """Write those that are not there yet by way of COPY into a table of this connection, and return them.

    As parameters, in whatever form, the same rows take twice as long (docs/performance.md). The table is empty at the
    start of every transaction; what an earlier call in the same one has left there is a duplicate.
    """
    table, into = UsageEvent._meta.db_table, f"{INCOMING} ({_COLUMNS})"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {INCOMING} ON COMMIT DELETE ROWS AS "  # noqa: S608
            f"SELECT {_COLUMNS} FROM {table} WITH NO DATA"
        )
        if secrets.randbelow(TRUNCATED_EVERY) == 0:
            cursor.execute(f"TRUNCATE {INCOMING}")
        with cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for event in in_order:
                copy.write_row(event)
        cursor.execute(f"INSERT INTO {table} ({_COLUMNS}) SELECT {_COLUMNS} FROM {INCOMING} {_ONCE}")  # noqa: S608
        # As nearly always; then nobody needs to read which they are.
        return in_order if cursor.rowcount == len(in_order) else _among(in_order, cursor.fetchall())


def _among(in_order: list[NewEvent], new: Iterable[tuple[UUID | str, str, datetime | str]]) -> list[NewEvent]:
    identities = {(identity(gateway_id), event_id, instant(at)) for gateway_id, event_id, at in new}
    return [event for event in in_order if event.identity in identities]

"""The database's registry of the processes that answer gateways, and of how long each may use what it holds.

What keeps a process from deciding by an older state is here alone (design §3.4):

- It renews its lease first and reads what it has not applied afterwards. A change that commits later than this reading
  finds the renewed lease in the registry, for that was committed before.
- What it has applied is a snapshot of the database, not a last id: transactions commit out of the order of their ids,
  and a snapshot says of each of them whether it was seen.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from django.db import connection

from audit import clock
from gateways.models import GatewayProcess
from keys.models import Invalidation
from keys.narrowing import Fact

# Invalidations are kept so long for those who have not applied them; who stayed away longer holds nothing.
INVALIDATIONS_KEPT: Final = timedelta(hours=1)
# What is left of a process that was killed.
PROCESSES_KEPT: Final = timedelta(days=1)

_PROCESSES: Final = GatewayProcess._meta.db_table
_INVALIDATIONS: Final = Invalidation._meta.db_table

# Which history of the database it is: a standby that takes over, and a copy that is restored, begin another one.
_TIMELINE: Final = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_REGISTER: Final = f"""
INSERT INTO {_PROCESSES} (id, host, pid, started_at, leased_until, applied)
VALUES (%s, %s, %s, clock_timestamp(), clock_timestamp(), pg_current_snapshot()::text)
ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, leased_until = excluded.leased_until
RETURNING applied, {_TIMELINE}
"""  # noqa: S608  # names of ours alone
_RENEW: Final = f"""
UPDATE {_PROCESSES} SET leased_until = clock_timestamp() + %s * interval '1 second', applied = %s
WHERE id = %s AND leased_until > clock_timestamp() - %s * interval '1 second'
"""  # noqa: S608
_UNREAD: Final = f"""
SELECT s.now::text, s.timeline, i.kind, i.object_id
FROM (SELECT pg_current_snapshot() AS now, {_TIMELINE} AS timeline) s
LEFT JOIN {_INVALIDATIONS} i
    ON i.transaction >= %s AND NOT pg_visible_in_snapshot(i.transaction::text::xid8, %s::pg_snapshot)
"""  # noqa: S608
_STANDING: Final = f"""
SELECT id, extract(epoch FROM leased_until - clock_timestamp())::float8, NOT EXISTS (
    SELECT FROM unnest(%s::bigint[]) t WHERE NOT pg_visible_in_snapshot(t::text::xid8, applied::pg_snapshot)
)
FROM {_PROCESSES} WHERE leased_until > clock_timestamp()
"""  # noqa: S608
# A row goes when everybody who may still hold something has applied it, however late its transaction has committed.
_FORGET: Final = f"""
DELETE FROM {_INVALIDATIONS} i WHERE at < clock_timestamp() - %s * interval '1 second' AND NOT EXISTS (
    SELECT FROM {_PROCESSES} p WHERE leased_until > clock_timestamp() - %s * interval '1 second'
    AND NOT pg_visible_in_snapshot(i.transaction::text::xid8, p.applied::pg_snapshot)
)
"""  # noqa: S608


class Applied(NamedTuple):
    """How far a process is: the snapshot whose invalidations it has applied, and the database's timeline."""

    snapshot: str
    timeline: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease, and what must be applied before it is used. until: seconds of `clock.elapsed`."""

    until: float
    applied: Applied
    facts: tuple[Fact, ...]


class Standing(NamedTuple):
    """A process that holds a lease. seconds: how long it still does; applied: whether it has applied what was asked."""

    seconds: float
    applied: bool


def register(process_id: UUID) -> Applied:
    """Enter a process that holds nothing, without a lease; return what it need not look behind.

    Errors: DatabaseError.
    """
    with connection.cursor() as cursor:
        cursor.execute(_REGISTER, [process_id, socket.gethostname()[:100], os.getpid()])
        return Applied(*cursor.fetchone())


def renew(process_id: UUID, *, applied: Applied, lease: float) -> Renewal | None:
    """Extend a process's lease by `lease` seconds from now and return what it has not applied.

    None where the process must register anew and forget what it holds: the registry does not know it, or has not heard
    of it for so long that rows it needs may be gone; or the database has another history, or an older state, than it
    had. Errors: DatabaseError.
    """
    clock.refresh()
    before = clock.elapsed()
    with connection.cursor() as cursor:
        cursor.execute(_RENEW, [lease, applied.snapshot, process_id, INVALIDATIONS_KEPT.total_seconds() / 2])
        if not cursor.rowcount:
            return None
        # A statement, and so a snapshot, of its own: the lease is committed before.
        cursor.execute(_UNREAD, [_xmin(applied), applied.snapshot])
        rows = cursor.fetchall()
    now = Applied(*rows[0][:2])
    if now.timeline != applied.timeline or _xmin(now) < _xmin(applied):
        return None
    facts = tuple(Fact(kind, object_id) for *_, kind, object_id in rows if kind is not None)
    return Renewal(before + lease, now, facts)


def note_applied(process_id: UUID, *, applied: Applied) -> None:
    """Record how far a process is, for those who wait. Errors: DatabaseError."""
    GatewayProcess.objects.filter(pk=process_id).update(applied=applied.snapshot)


def leave(process_id: UUID) -> None:
    """Take a process that uses nothing any more out of the registry. Errors: DatabaseError."""
    GatewayProcess.objects.filter(pk=process_id).delete()


def standing(transactions: Sequence[int]) -> dict[UUID, Standing]:
    """Return the processes that hold a lease now, and whether each has applied all of `transactions`."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [list(transactions)])
        return {id_: Standing(*rest) for id_, *rest in cursor.fetchall()}


def forget() -> None:
    """Delete the invalidations that nobody needs any more, and what is left of processes that were killed."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_FORGET, [INVALIDATIONS_KEPT.total_seconds()] * 2)
        GatewayProcess.objects.filter(leased_until__lt=clock.now() - PROCESSES_KEPT).delete()


def _xmin(applied: Applied) -> int:
    """Return the id below which a snapshot has seen the end of every transaction."""
    return int(applied.snapshot.partition(":")[0])

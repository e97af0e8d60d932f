"""What tidies the tables: one hand at a time, and a note of what it took away."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from usage.models import KeptEvents

# Any number that no other advisory lock of ours uses.
TENDER_LOCK = 0x7E2D


def is_only_tender() -> bool:
    """Say whether this transaction alone tends the tables, until it ends. Nobody waits, as with the audit's sealer."""
    # SQLite needs no lock: its transactions are IMMEDIATE, so there is one writer anyway.
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [TENDER_LOCK])
        (mine,) = cursor.fetchone()
    return bool(mine)


def keep_since(since: datetime) -> None:
    """Note that events before `since` are no longer all kept, in the transaction that deletes them.

    Whoever compares events with the sums must know from when on all are there, whatever the setting says by then.
    """
    KeptEvents.objects.get_or_create(pk=1, defaults={"since": since})
    KeptEvents.objects.filter(pk=1, since__lt=since).update(since=since)

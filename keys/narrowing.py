"""How a change reaches those who hold an older state of what it changed (design §3.4).

The change writes, in its own transaction, what is out of date now. After commit `narrowed` is sent, and whoever
listens answers when nobody decides by the older state any more; the verb returns then. Who was not told, or did not
listen, finds the rows by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, cast

from django.db import connection, transaction
from django.dispatch import Signal

from audit import clock
from keys.models import Invalidation

# Sent after commit with `change`, a Narrowing. The answer of who listens is kept as its `in_force`.
narrowed = Signal()


class Kind(StrEnum):
    """What a row speaks of."""

    KEY = "key"
    GROUP = "group"
    GATEWAY = "gateway"
    POLICY = "policy"


class Fact(NamedTuple):
    """An object whose older state nobody may decide by. kind: one of Kind, or a later release's; id: as text."""

    kind: str
    id: str


class InForce(Protocol):
    """What is known of a change when its verb returns. words: as in "on 4 of 4 gateway processes in 3 ms", or ""."""

    @property
    def words(self) -> str: ...

    def as_header(self) -> str: ...


@dataclass(slots=True)
class Narrowing:
    """What one verb has changed of what gateways decide by.

    waits: whether the verb returns only when nobody decides by the older state. transactions: the ids of those that
    wrote `facts`. in_force: who decides by it, once it is committed; None where nobody holds anything.
    """

    waits: bool = True
    facts: list[Fact] = field(default_factory=list)
    transactions: list[int] = field(default_factory=list)
    in_force: InForce | None = None

    def of(self, kind: Kind, object_id: object) -> None:
        """Write, in the caller's transaction, that this object is not what it was."""
        # On SQLite every decision reads the database.
        if connection.vendor == "postgresql":
            self.facts.append(Fact(kind.value, str(object_id)))
            self.transactions.append(_write(self.facts[-1]))

    def of_what_was_done_before(self) -> None:
        """Let this wait, too, for all that was committed before the caller's transaction, by whomever."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()::text::bigint")
                (transaction_id,) = cursor.fetchone()
            self.transactions.append(transaction_id)

    def told(self, before: str) -> str:
        """Return on whom the change is in force, after the words `before`; "" where there is nothing to tell."""
        return f"{before} {self.in_force.words}" if self.in_force is not None and self.in_force.words else ""

    def tell(self) -> None:
        """Send `narrowed`; returns when whoever listens has answered."""
        for _, answer in narrowed.send(sender=Narrowing, change=self):
            self.in_force = cast("InForce | None", answer)


@contextmanager
def narrowing(*, waits: bool = True, within: Narrowing | None = None) -> Iterator[Narrowing]:
    """Collect what the block changes; at its end, or when the transaction around it commits, make it known.

    Also where the block raises: a part of it may be committed.
    within: what the block's change is part of; whoever began that makes it known.
    """
    if within is not None:
        yield within
        return
    change = Narrowing(waits=waits)
    try:
        yield change
    finally:
        if change.transactions:
            transaction.on_commit(change.tell)


def _write(fact: Fact) -> int:
    """Write a row; return the id of the transaction."""
    sql = (
        f"INSERT INTO {Invalidation._meta.db_table} (transaction, kind, object_id, at) "  # noqa: S608  # a name of ours
        "VALUES (pg_current_xact_id()::text::bigint, %s, %s, %s) RETURNING transaction"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*fact, clock.now()])
        written: tuple[int] = cursor.fetchone()
    return written[0]

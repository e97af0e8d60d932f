"""How a fact gets into the audit log: in the transaction of the change, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, OperationalError, transaction

from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.models import AuditEntry
from audit.redaction import redact
from audit.signals import entry_recorded

type Facts = Mapping[str, Any]


class EntryNotWritten(OperationalError):
    """The audit log takes no entry, whatever the reason: what it would have told of must not happen.

    As an OperationalError, so that every door answers 503.
    """


class Subject(NamedTuple):
    """What an entry is about, and what it was called at the time. type: as in `gateway_key`."""

    type: str
    id: object = ""
    label: str = ""


def record(
    action: AuditAction,
    actor: Actor,
    about: Subject,
    before: Facts | None = None,
    after: Facts | None = None,
    detail: Facts | None = None,
) -> AuditEntry:
    """Write one entry in the caller's transaction and tell those who listen; both undo with it.

    before, after: what changed. detail: what else belongs to the fact.
    Errors: EntryNotWritten; TransactionManagementError outside a transaction, because a fact and its change are one.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("an audit entry is written in the transaction of its change")
    try:
        entry = AuditEntry.objects.create(
            at=clock.now(),
            action=action,
            actor_kind=actor.kind.value,
            actor_id=actor.id,
            actor_label=_text(actor.label, 200),
            credential=_text(actor.credential, 200),
            ip=actor.ip,
            object_type=about.type,
            object_id=_text(str(about.id), 64),
            object_label=_text(about.label, 300),
            before=plain(before or {}),
            after=plain(after or {}),
            detail=plain({**(detail or {}), **_request(actor)}),
        )
    except DatabaseError as error:
        raise EntryNotWritten("The audit log takes no entry, so nothing was done.") from error
    entry_recorded.send(sender=AuditEntry, entry=entry)
    return entry


def changes(before: Facts, after: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both sides of what differs between two snapshots of the same object."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def plain(value: Any) -> Any:
    """Return `value` as JSON that reads back the same from every database, with no secret in it.

    Times become ISO 8601 in UTC, spans become seconds. Numbers that are not whole become text, because a database
    may write them differently from how they were hashed.
    """
    match value:
        case Mapping():
            return {redact(str(name)): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return int(value.total_seconds())
        case float() | Decimal() | UUID():
            return str(value)
        case None | bool() | int():
            return value
        case _:
            return redact(str(value).replace("\x00", ""))


def _request(actor: Actor) -> Facts:
    return {"request_id": actor.request_id} if actor.request_id else {}


def _text(text: str, length: int) -> str:
    return redact(text).replace("\x00", "")[:length]

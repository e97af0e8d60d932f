"""Which steps of a migration the version that still serves would notice: it would fail, or wait for a lock.

The rule (docs/operations.md): a release only adds; what nobody uses any more goes with the release after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db.migrations import Migration
from django.db.migrations.operations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunPython,
    RunSQL,
)
from django.db.models import NOT_PROVIDED

# Tables that grow without end: to build an index on them, or to check each row, takes minutes.
BIG: Final = frozenset(
    {"auditentry", "auditleaf", "checkpoint", "usageevent", "usagebucket", "gatewaykey", "keyversion"}
)


def hazards(migration: Migration) -> list[str]:
    """Return what is not safe while the old version serves, each in a sentence; of what it makes itself, nothing."""
    made: set[str] = set()
    found: list[str] = []
    for operation in migration.operations:
        if name := getattr(operation, "name", None) if type(operation).__name__ == "CreateModel" else None:
            made.add(name.lower())
        elif getattr(operation, "model_name", "").lower() not in made:
            found += _of(operation)
    return found


def _of(operation: Any) -> Iterator[str]:
    match operation:
        case RemoveField() | DeleteModel():
            yield f"{operation.describe()}: the old version still reads it. Remove it a release later."
        case RenameField() | RenameModel():
            yield f"{operation.describe()}: the old version knows the old name. Add the new one beside it."
        case AddField() if not _may_be_left_out(operation.field):
            yield f"{operation.describe()}: the old version does not fill it. Give it a db_default, or let it be null."
        case AlterField() if not _may_be_left_out(operation.field):
            yield f"{operation.describe()}: each row is looked at under a lock that everybody waits for, or rewritten."
        case AddIndexConcurrently() | RemoveIndexConcurrently():
            return
        case AddIndex() if operation.model_name.lower() in BIG:
            yield f"{operation.describe()}: writers wait until it is built. On PostgreSQL build it CONCURRENTLY."
        case AddConstraint() if operation.model_name.lower() in BIG:
            yield f"{operation.describe()}: each row is checked under a lock that everybody waits for."
        case RunSQL() | RunPython():
            yield f"{operation.describe()}: read it; nobody can say for it."


def _may_be_left_out(field: Any) -> bool:
    """Say whether an INSERT that does not name the field succeeds. Django's own default is not the database's."""
    return bool(field.null or field.db_default is not NOT_PROVIDED or field.many_to_many)

"""The CSV of the audit log."""

from __future__ import annotations

from typing import Final

from django.db.models import Max, QuerySet

from audit.actions import AuditAction
from audit.csv_cells import Column, Kind
from audit.exports import Export
from audit.models import AuditEntry

ENTRIES: Final = Export(
    AuditAction.AUDIT_EXPORTED,
    "audit_entry",
    "audit-entries.csv",
    (
        Column("id", Kind.NUMBER),
        Column("at", Kind.INSTANT),
        Column("action", Kind.WORD),
        Column("actor_kind", Kind.WORD),
        Column("actor_id", Kind.WORD),
        Column("actor_label", Kind.TEXT),
        Column("credential", Kind.TEXT),
        Column("ip", Kind.NUMBER),
        Column("object_type", Kind.WORD),
        Column("object_id", Kind.WORD),
        Column("object_label", Kind.TEXT),
        Column("before", Kind.JSON),
        Column("after", Kind.JSON),
        Column("detail", Kind.JSON),
    ),
)


def until_now(entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """Narrow to what is there: the entry of an export itself is the first that is not in it."""
    newest = AuditEntry.objects.aggregate(newest=Max("id"))["newest"] or 0
    return entries.filter(id__lte=newest)

"""The console's forms know the state that they edit; an editor who was overtaken is told by whom, and chooses.

Every form that edits carries the tag of what it was filled with, and the last audit entry of then. Saved, it demands
that state. Where it is gone, the form comes again as it was typed, says who has changed what since, and takes "save
over" only for the state of which it has told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest

from access.actors import caller
from access.preconditions import Precondition, PreconditionFailed
from access.refusals import OBJECT_TYPES
from audit.models import AuditEntry

TAG: Final = "state_tag"
SEEN: Final = "seen_entry"
OVER: Final = "save_over"
# What a row is called by which it brings the last entry about it.
LAST: Final = "last_audit_entry"
MOST_TOLD: Final = 10
NOT_SAVED: Final = "Not saved: somebody else has changed this since you opened it. What you have typed is still here."


@dataclass(frozen=True, slots=True)
class Step:
    """One entry, and what it changed: name, before, after."""

    entry: AuditEntry
    changes: list[tuple[str, Any, Any]]


@dataclass(frozen=True, slots=True)
class Overtaken:
    """What an editor missed: the newest first, and the tag of the state that this made."""

    steps: list[Step]
    tag: str

    @property
    def in_words(self) -> str:
        """Who it was, in a sentence."""
        names = list(dict.fromkeys(step.entry.actor_label for step in self.steps))
        return f"Not saved: {', '.join(names) or 'somebody else'} has changed this meanwhile. See below, at the form."


def known_state(request: HttpRequest, obj: models.Model, tag: str) -> dict[str, str]:
    """Return what the form about `obj` is to carry: of a form that comes again, what it carried before.

    obj: as `with_last_entry` brings it.
    """
    if request.method == "POST":
        return {name: request.POST.get(name, "") for name in (TAG, SEEN)}
    return {TAG: tag, SEEN: str(getattr(obj, LAST, None) or 0)}


def with_last_entry[M: models.Model](rows: models.QuerySet[M], pk: object) -> models.QuerySet[M]:
    """Let the row of this primary key bring the id of the last entry about it, for `known_state`.

    It is found with the row in one statement, and so it is the entry of the very state that is read.
    """
    if rows.model._meta.model_name not in OBJECT_TYPES:
        return rows
    last = models.Subquery(_entries(rows.model, pk).values("pk")[:1])
    return cast("models.QuerySet[M]", rows.annotate(**{LAST: last}))


def expected_state(request: HttpRequest) -> Precondition:
    """Return the state that a form demands. Errors: ValidationError for a form without."""
    tag = request.POST.get(OVER) or request.POST.get(TAG)
    if not tag:
        raise ValidationError("The form is incomplete. Load the page again.", code="required")
    return Precondition(frozenset({tag}))


def overtaken(request: HttpRequest, failed: PreconditionFailed) -> Overtaken:
    """Return what was done to the object since the form was opened, as far as the member may read of it."""
    seen = request.POST.get(SEEN, "")
    # Longer than any id of the log is no id of the log.
    entries = _entries(type(failed.obj), failed.obj.pk).filter(
        pk__gt=int(seen) if seen.isdecimal() and len(seen) < 19 else 0
    )
    told = caller(request).visible(entries.exclude(action__endswith="_refused"))
    return Overtaken([Step(entry, _changes(entry)) for entry in told[:MOST_TOLD]], failed.tag)


def _entries(model: type[models.Model], pk: object) -> models.QuerySet[AuditEntry]:
    kind = OBJECT_TYPES[str(model._meta.model_name)]
    # Of the installation's policy there is one, and the log gives it no id.
    about = {"object_type": kind, "object_id": "" if kind == "policy" else str(pk)}
    return AuditEntry.objects.filter(**about).order_by("-id")


def _changes(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    # Where a name is told, the number behind it says nothing to people.
    names = [name for name in entry.after if name.removesuffix("_id") == name or name[:-3] not in entry.after]
    return [(name.replace("_", " "), entry.before.get(name), entry.after[name]) for name in names]

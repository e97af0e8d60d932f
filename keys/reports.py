"""What both reports share: what they are narrowed by, and that producing one is in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import QueryDict

from access.models import Member
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, record
from keys.models import MOST_DAYS, ConsumerGroup
from keys.rotation_compliance import DAYS

ACCESS_REVIEW: Final = "access-review"
ROTATION_COMPLIANCE: Final = "rotation-compliance"
TITLES: Final = {ACCESS_REVIEW: "Access review", ROTATION_COMPLIANCE: "Rotation compliance"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is asked for. group: of which alone; days: how old a value may get where no policy says."""

    group: ConsumerGroup | None
    days: int

    def query(self, slug: str) -> dict[str, str]:
        """Return it as the parameters of an address."""
        query = {"consumer_group": self.group.slug} if self.group is not None else {}
        return query | ({"days": str(self.days)} if slug == ROTATION_COMPLIANCE else {})


def asked(member: Member, parameters: QueryDict, slug: str) -> Asked:
    """Return what the parameters ask for. Errors: ValidationError by their names."""
    known = {"consumer_group", "days"} if slug == ROTATION_COMPLIANCE else {"consumer_group"}
    errors: dict[str, ValidationError] = {}
    for name, said in parameters.lists():
        if name not in known:
            errors[name] = ValidationError("There is no such parameter.", code="unknown_parameter")
        elif len(said) > 1:
            errors[name] = ValidationError("This may be said once.", code="repeated")
    group, days = None, DAYS
    if given := parameters.get("consumer_group"):
        # A NUL is no part of a slug, and PostgreSQL takes none.
        groups = member.visible(ConsumerGroup.objects.all())
        group = groups.filter(slug=given).first() if "\x00" not in given else None
        if group is None:
            errors.setdefault(
                "consumer_group", ValidationError("There is no such group that you may see.", code="invalid_choice")
            )
    if given := parameters.get("days"):
        days = int(given) if given.isascii() and given.isdecimal() and len(given) <= 5 else 0
        if not 1 <= days <= MOST_DAYS:
            message = f"A whole number of days, 1 to {MOST_DAYS:,}."
            errors.setdefault("days", ValidationError(message, code="invalid"))
    if errors:
        raise ValidationError(dict(errors))
    return Asked(group, days)


def record_report(actor: Actor, slug: str, filters: Mapping[str, Any], *, rows: int, form: str) -> None:
    """Write that `actor` has got a report. rows: how many keys it is about; form: `page` or `json`."""
    with transaction.atomic():
        detail = {"filter": dict(filters), "rows": rows, "form": form}
        record(AuditAction.REPORT_PRODUCED, actor, Subject("report", slug, TITLES[slug]), detail=detail)

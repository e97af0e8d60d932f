"""The one writer of consumer groups: create and edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction

from access.models import Member
from access.preconditions import Precondition, tag_of
from access.rules import Role, require
from access.text import clean_text, refuse_unknown
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record
from keys.models import ConsumerGroup
from keys.narrowing import Kind, narrowing
from keys.networks import clean_networks

POLICY: Final = (
    "default_lifetime_days",
    "max_lifetime_days",
    "expiry_required",
    "max_grace_seconds",
    "allowed_networks",
    "idle_days",
)
EDITABLE: Final = frozenset({"name", "description", "managers", *POLICY})


def create_group(*, actor: Actor, name: str, slug: str, **particulars: Any) -> ConsumerGroup:
    """Make a consumer group and return it. particulars: anything in EDITABLE.

    Errors: Forbidden; ValidationError at the field, also for a name or slug that is taken.
    """
    require(actor, "keys.add_consumergroup")
    group = ConsumerGroup(slug=slug)
    with transaction.atomic():
        _apply(group, {"name": name, **particulars})
        group.save(force_insert=True)
        group.managers.set(_managers(particulars.get("managers", ())))
        record(AuditAction.GROUP_CREATED, actor, _about(group), {}, snapshot(group))
    return group


def edit_group(
    *, actor: Actor, group_id: int, changed: Mapping[str, Any], expected: Precondition | None = None
) -> ConsumerGroup:
    """Give a group other particulars (EDITABLE); what is not named stays. Nothing new is no entry.

    Existing keys keep the expiry they have: the policy holds from their next change on. Other networks hold for all of
    them when this returns; the group's `narrowing` tells who has learnt of it.
    Errors: ConsumerGroup.DoesNotExist; Forbidden; PreconditionFailed where it is not in the state that is expected;
    ValidationError at the field.
    """
    with narrowing() as change, transaction.atomic():
        group = ConsumerGroup.objects.select_for_update(no_key=True).get(pk=group_id)
        require(actor, "keys.change_consumergroup", group)
        if expected is not None:
            expected.require(group, state_tag(group))
        before = snapshot(group)
        _apply(group, changed)
        if "managers" in changed:
            group.managers.set(_managers(changed["managers"], named=frozenset(group.managers.all())))
        old, new = changes(before, snapshot(group))
        if new:
            group.save()
            record(AuditAction.GROUP_EDITED, actor, _about(group), old, new)
        if "allowed_networks" in changed:
            change.of(Kind.GROUP, group.pk)
            group.narrowing = change
    return group


def snapshot(group: ConsumerGroup) -> dict[str, Any]:
    """Return what the audit log says of a group."""
    managers = sorted(group.managers.values_list("username", flat=True))
    facts = {field: getattr(group, field) for field in ("name", "slug", "description", *POLICY)}
    return {**facts, "managers": managers}


def state_tag(group: ConsumerGroup) -> str:
    """Return the tag of a group's state (access/preconditions.py)."""
    return tag_of({"id": group.pk, **snapshot(group)})


def _apply(group: ConsumerGroup, changed: Mapping[str, Any]) -> None:
    refuse_unknown(changed, EDITABLE)
    for field, value in changed.items():
        match field:
            case "name":
                group.name = clean_text(value, field="name", limit=100, required=True)
            case "description":
                group.description = clean_text(value, field="description", limit=2_000, lines=True)
            case "allowed_networks":
                group.allowed_networks = clean_networks(value)
            case "managers":
                pass
            case _:
                setattr(group, field, value)
    if (
        group.default_lifetime_days is not None
        and group.max_lifetime_days is not None
        and group.default_lifetime_days > group.max_lifetime_days
    ):
        message = "This is longer than the maximum lifetime."
        raise ValidationError({"default_lifetime_days": ValidationError(message, code="above_maximum")})
    group.full_clean()


def _managers(members: Iterable[Member], *, named: frozenset[Member] = frozenset()) -> list[Member]:
    """Return `members`, of whom each is a Manager or named already: who became something else may stay named."""
    chosen = list(members)
    for member in chosen:
        if member.role != Role.MANAGER and member not in named:
            message = f"{member.username} is no Manager."
            raise ValidationError({"managers": ValidationError(message, code="not_a_manager")})
    return chosen


def _about(group: ConsumerGroup) -> Subject:
    return Subject("consumer_group", group.pk, group.slug)

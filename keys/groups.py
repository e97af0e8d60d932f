"""The one writer of consumer groups: create and edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from access.models import Member
from access.preconditions import Precondition, tag_of
from access.rules import Role, require
from access.text import clean_text, refuse_unknown
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record
from keys.alignment import align_all
from keys.models import ConsumerGroup, InstallationPolicy
from keys.narrowing import Kind, narrowing
from keys.networks import clean_networks
from keys.policy import POLICY, Policies, about_to_change, installation_policy, standing
from keys.policy_impact import ExistingKeys, Impact, decided, impact
from keys.policy_rows import check_policy, keep_idle_since, refuse_looser

EDITABLE: Final = frozenset({"name", "description", "managers", *POLICY})


def create_group(*, actor: Actor, name: str, slug: str, **particulars: Any) -> ConsumerGroup:
    """Make a consumer group and return it. particulars: anything in EDITABLE.

    Errors: Forbidden; ValidationError at the field, also for a name or slug that is taken.
    """
    require(actor, "keys.add_consumergroup")
    group = ConsumerGroup(slug=slug)
    with transaction.atomic():
        installation = standing()
        _apply(group, {"name": name, **particulars}, installation)
        group.save(force_insert=True)
        group.managers.set(_managers(particulars.get("managers", ())))
        record(AuditAction.GROUP_CREATED, actor, _about(group), {}, snapshot(group))
    return group


def edit_group(
    *,
    actor: Actor,
    group_id: int,
    changed: Mapping[str, Any],
    existing_keys: str | None = None,
    expected: Precondition | None = None,
) -> ConsumerGroup:
    """Give a group other particulars (EDITABLE); what is not named stays. Nothing new is no entry.

    existing_keys: what is to become of the keys that a stricter policy breaks, one of ExistingKeys. Left, they keep
    what they have until their next change, and are listed; else they are brought into line after this is committed,
    and the group's `alignment` tells of each. Other networks hold for all of them when this returns; the group's
    `narrowing` tells who has learnt of it.
    Errors: ConsumerGroup.DoesNotExist; Forbidden; PreconditionFailed where it is not in the state that is expected;
    ValidationError at the field, also for a rule that is looser than the
    installation's; Conflict `policy_breaks_keys` where the change breaks keys, and `existing_keys` does not say.
    """
    with narrowing() as change, transaction.atomic():
        installation = about_to_change()
        group = ConsumerGroup.objects.select_for_update(no_key=True).get(pk=group_id)
        require(actor, "keys.change_consumergroup", group)
        if expected is not None:
            expected.require(group, state_tag(group))
        before, was = snapshot(group), copy(group)
        _apply(group, changed, installation)
        broken = _impact(was, group, installation)
        choice = decided(broken, existing_keys, "keys.change_consumergroup", group)
        to_align = broken.ids() if choice is ExistingKeys.ALIGN else []
        if "managers" in changed:
            group.managers.set(_managers(changed["managers"], named=frozenset(group.managers.all())))
        old, new = changes(before, snapshot(group))
        if new:
            group.save()
            detail = {"existing_keys": choice.value, "breaks": broken.count} if choice is not None else {}
            record(AuditAction.GROUP_EDITED, actor, _about(group), old, new, detail)
        if "allowed_networks" in changed:
            change.of(Kind.GROUP, group.pk)
            group.narrowing = change
    group.alignment = align_all(actor, to_align)
    return group


def name_manager(*, actor: Actor, group_id: int, member: Member) -> None:
    """Add a Manager who joins to those whom a group names. Named already, nothing is written.

    For keys/joining.py alone, in the transaction of the joining: the right to choose the group was the right to invite,
    and whoever joins has none of their own yet.
    """
    group = ConsumerGroup.objects.select_for_update(no_key=True).get(pk=group_id)
    before = snapshot(group)
    group.managers.add(member)
    old, new = changes(before, snapshot(group))
    if new:
        record(AuditAction.GROUP_EDITED, actor, _about(group), old, new, {"because": "chosen at the invitation"})


def preview_group(*, actor: Actor, group_id: int, changed: Mapping[str, Any]) -> Impact:
    """Return which existing keys an edit would break, and change nothing. Errors: those of the edit's fields."""
    group = ConsumerGroup.objects.get(pk=group_id)
    require(actor, "keys.change_consumergroup", group)
    return impact_of_edit(group, changed)


def impact_of_edit(group: ConsumerGroup, changed: Mapping[str, Any]) -> Impact:
    """Return which existing keys an edit of `group`, which stays as it is, would break. Errors: ValidationError."""
    edited, installation = copy(group), installation_policy()
    _apply(edited, changed, installation)
    return _impact(group, edited, installation)


def snapshot(group: ConsumerGroup) -> dict[str, Any]:
    """Return what the audit log says of a group."""
    managers = sorted(group.managers.values_list("username", flat=True))
    facts = {field: getattr(group, field) for field in ("name", "slug", "description", *POLICY)}
    return {**facts, "managers": managers}


def state_tag(group: ConsumerGroup) -> str:
    """Return the tag of a group's state (access/preconditions.py)."""
    return tag_of({"id": group.pk, **snapshot(group)})


def _impact(was: ConsumerGroup, group: ConsumerGroup, installation: InstallationPolicy) -> Impact:
    if all(getattr(was, field) == getattr(group, field) for field in POLICY):
        return Impact()
    before, after = (Policies(installation, {one.pk: one}) for one in (was, group))
    return impact(before, after, Q(consumer_group=group.pk), clock.now())


def _apply(group: ConsumerGroup, changed: Mapping[str, Any], installation: InstallationPolicy) -> None:
    refuse_unknown(changed, EDITABLE)
    was = copy(group)
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
    check_policy(group)
    refuse_looser(was, group, installation)
    keep_idle_since(was, group, clock.now())
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

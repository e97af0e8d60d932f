"""The one writer of the installation's policy, which holds for every key, in a group or not."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from access.preconditions import Precondition, tag_of
from access.rules import require
from access.text import refuse_unknown
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record
from keys.alignment import align_all
from keys.models import ConsumerGroup, InstallationPolicy
from keys.narrowing import Kind, narrowing
from keys.networks import clean_networks
from keys.policy import POLICY, Policies, about_to_change, installation_policy
from keys.policy_impact import ExistingKeys, Impact, decided, impact
from keys.policy_rows import check_policy, keep_idle_since

PERMISSION: Final = "keys.change_installationpolicy"


def edit_policy(
    *,
    actor: Actor,
    changed: Mapping[str, Any],
    existing_keys: str | None = None,
    expected: Precondition | None = None,
) -> InstallationPolicy:
    """Give the installation's policy other rules (POLICY); what is not named stays. Nothing new is no entry.

    existing_keys: what is to become of the keys that it breaks, as for a group's policy (keys/groups.py). Other
    networks hold for every key when this returns; its `narrowing` tells who has learnt of it.
    Errors: Forbidden; PreconditionFailed where it is not in the state that is expected; ValidationError at the field;
    Conflict `policy_breaks_keys`.
    """
    with narrowing() as change, transaction.atomic():
        policy = about_to_change()
        require(actor, PERMISSION)
        if expected is not None:
            expected.require(policy, state_tag(policy))
        was = copy(policy)
        _apply(policy, changed)
        broken = _impact(was, policy)
        choice = decided(broken, existing_keys, PERMISSION, policy)
        to_align = broken.ids() if choice is ExistingKeys.ALIGN else []
        old, new = changes(snapshot(was), snapshot(policy))
        if new:
            policy.save()
            detail = {"existing_keys": choice.value, "breaks": broken.count} if choice is not None else {}
            record(AuditAction.POLICY_EDITED, actor, Subject("policy", "", "The installation"), old, new, detail)
        if "allowed_networks" in changed:
            change.of(Kind.POLICY, policy.pk)
            policy.narrowing = change
    policy.alignment = align_all(actor, to_align)
    return policy


def preview_policy(*, actor: Actor, changed: Mapping[str, Any]) -> Impact:
    """Return which existing keys an edit would break, and change nothing. Errors: those of the edit's fields."""
    require(actor, PERMISSION)
    return impact_of_edit(changed)


def impact_of_edit(changed: Mapping[str, Any]) -> Impact:
    """Return which existing keys an edit would break, and change nothing. Errors: ValidationError at the field."""
    policy = installation_policy()
    was = copy(policy)
    _apply(policy, changed)
    return _impact(was, policy)


def snapshot(policy: InstallationPolicy) -> dict[str, Any]:
    """Return what the audit log says of it."""
    return {field: getattr(policy, field) for field in POLICY}


def state_tag(policy: InstallationPolicy) -> str:
    """Return the tag of the policy's state (access/preconditions.py)."""
    return tag_of(snapshot(policy))


def _impact(was: InstallationPolicy, policy: InstallationPolicy) -> Impact:
    if snapshot(was) == snapshot(policy):
        return Impact()
    groups = {group.pk: group for group in ConsumerGroup.objects.all()}
    return impact(Policies(was, groups), Policies(policy, groups), Q(), clock.now())


def _apply(policy: InstallationPolicy, changed: Mapping[str, Any]) -> None:
    refuse_unknown(changed, frozenset(POLICY))
    was = copy(policy)
    for field, value in changed.items():
        setattr(policy, field, clean_networks(value) if field == "allowed_networks" else value)
    check_policy(policy)
    keep_idle_since(was, policy, clock.now())
    policy.full_clean(validate_unique=False)

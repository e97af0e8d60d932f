"""The one writer of gateway keys (design §3.1, §5). Admin, API, jobs and commands all call these verbs.

Each verb runs in one transaction that locks the key, checks right and transition, writes, and records. One after which
gateways decide otherwise returns when all of their processes do (keys/narrowing.py); the key's `narrowing` tells.
Common errors: GatewayKey.DoesNotExist; Forbidden (the actor may not); Conflict (the state does not allow it, with
a code); ValidationError at the field; PreconditionFailed where the key is not in the state that is `expected`.
Nothing is changed by a verb that raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from access.models import Member
from access.preconditions import Precondition
from access.refusals import Conflict
from access.rules import require
from access.text import clean_text, refuse_unknown
from access.unset import UNSET, Unset
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.recording import Subject, changes, record
from keys import policy
from keys.breaches import BreachKind, breaches
from keys.issuing import IssuedKey, issue_version
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy, KeyVersion
from keys.narrowing import Kind, Narrowing, narrowing
from keys.networks import clean_networks
from keys.snapshots import snapshot, state_tag
from keys.status import KeyStatus

# What gateways decide by.
DECIDED_BY: Final = frozenset({"consumer_group", "allowed_networks", "expires_at"})
EDITABLE: Final = frozenset({"name", "description", "consumer_group", "expires_at", "allowed_networks", "owner"})
FINAL: Final = frozenset({KeyStatus.REVOKED, KeyStatus.EXPIRED})


def create(
    *,
    actor: Actor,
    name: str,
    consumer_group: ConsumerGroup | None = None,
    expires_at: datetime | Unset | None = UNSET,
    description: str = "",
    allowed_networks: Iterable[str] = (),
    owner: Member | Unset | None = UNSET,
) -> IssuedKey:
    """Make a key with its first version and return it with its value, shown this once.

    consumer_group: None = traffic of every group. expires_at: None = never; not said = the policy's default.
    owner: who answers for it, an active member; None = nobody; not said = the acting member.
    """
    now = clock.now()
    # Nobody holds anything of it, but that its value is unknown.
    with narrowing(waits=False) as change, transaction.atomic():
        installation = policy.standing()
        group = _locked_group(consumer_group)
        rules = policy.rules_of(group, installation)
        key = GatewayKey(
            name=clean_text(name, field="name", limit=100, required=True),
            description=clean_text(description, field="description", limit=2_000, lines=True),
            consumer_group=group,
            allowed_networks=clean_networks(allowed_networks),
            created_at=now,
            created_by=_member(actor),
            owner=_member(actor) if owner is UNSET else _active(owner),
        )
        require(actor, "keys.add_gatewaykey", key)
        if expires_at is UNSET:
            expires_at = policy.default_expiry(rules, now)
        policy.check_expiry(expires_at, rules, now)
        policy.check_networks(key.allowed_networks, rules)
        _set_expiry(key, expires_at, now)
        key.save(force_insert=True)
        issued = issue_version(key, number=1, now=now)
        _show_hint(issued)
        record(AuditAction.KEY_CREATED, actor, _about(key), {}, snapshot(key), {"version": 1})
        _changed(key, change)
    return issued


def edit(
    *,
    actor: Actor,
    key_id: UUID,
    changed: Mapping[str, Any],
    within: Narrowing | None = None,
    expected: Precondition | None = None,
) -> GatewayKey:
    """Give a key other particulars (EDITABLE); what is not named stays. Nothing new is no entry.

    Moving it needs rights on both groups, and the new group's policy holds for the expiry, the networks and the grace
    that it keeps. A new owner is an active member, or None for nobody. within: the change of several keys that this is
    part of, as for every verb.
    """
    refuse_unknown(changed, EDITABLE)
    with narrowing(within=within) as change, transaction.atomic():
        installation = policy.standing()
        key, now = _locked(key_id, expected), clock.now()
        require(actor, "keys.change_gatewaykey", key)
        _refuse_when(key, FINAL, "keys.change_gatewaykey", now)
        before = snapshot(key)
        _apply(key, changed, installation, now)
        if key.consumer_group_id != before["consumer_group_id"]:
            require(actor, "keys.change_gatewaykey", key)
        old, new = changes(before, snapshot(key))
        if new:
            key.save()
            record(AuditAction.KEY_EDITED, actor, _about(key), old, new)
        if DECIDED_BY & changed.keys():
            _changed(key, change)
    return key


def rotate(
    *,
    actor: Actor,
    key_id: UUID,
    grace: timedelta | None = None,
    renew_expiry: bool = True,
    within: Narrowing | None = None,
    expected: Precondition | None = None,
) -> IssuedKey:
    """Make a new version current and return it with its value, shown this once.

    grace: how long the old value stays accepted, 0 = not at all, None = the default within the group's ceiling;
    never beyond the key's own expiry. renew_expiry: set the expiry anew by the key's lifetime.
    """
    with narrowing(within=within) as change, transaction.atomic():
        installation = policy.standing()
        key, now = _locked(key_id, expected), clock.now()
        permission = "keys.rotate_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL | {KeyStatus.DISABLED}, permission, now)
        rules = policy.rules_of(key.consumer_group, installation)
        grace = policy.chosen_grace(grace, rules)
        before = snapshot(key)
        key.idle_from = now
        if renew_expiry and key.lifetime is not None:
            # The lifetime stays as it was chosen, also where today's policy cuts this renewal.
            key.expires_at = policy.renewed_expiry(key.lifetime, rules, now)
            _cut_grace(key)
        old = key.versions.get(valid_until__isnull=True)
        old.valid_until = min(now + grace, key.expires_at) if key.expires_at else now + grace
        if old.valid_until <= now:
            old.closed_at = now
        old.save(update_fields=["valid_until", "closed_at"])
        issued = issue_version(key, number=old.number + 1, now=now)
        if old.valid_until > now:
            key.grace_until = max(old.valid_until, key.grace_until or old.valid_until)
        _show_hint(issued)
        old_facts, new_facts = changes(before, snapshot(key))
        detail = {"version": issued.version.number, "grace_seconds": grace, "old_accepted_until": old.valid_until}
        record(AuditAction.KEY_ROTATED, actor, _about(key), old_facts, new_facts, detail)
        _changed(key, change)
    return issued


def end_grace(
    *, actor: Actor, key_id: UUID, within: Narrowing | None = None, expected: Precondition | None = None
) -> GatewayKey:
    """Refuse every version but the current one from now on. Conflict `not_in_grace` where none is accepted."""
    with narrowing(within=within) as change, transaction.atomic():
        key, now = _locked(key_id, expected), clock.now()
        permission = "keys.end_grace_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL, permission, now)
        in_grace = list(key.versions.filter(valid_until__gt=now))
        if not in_grace:
            raise Conflict("not_in_grace", "No older value of this key is accepted.", permission=permission, obj=key)
        KeyVersion.objects.filter(pk__in=[version.pk for version in in_grace]).update(valid_until=now, closed_at=now)
        _grace_is_over(key, actor, in_grace)
        _changed(key, change)
    return key


def extend_grace(
    *,
    actor: Actor,
    key_id: UUID,
    until: datetime | None = None,
    grace: timedelta | None = None,
    expected: Precondition | None = None,
) -> GatewayKey:
    """Let every older value that is still accepted be so until a later time. Conflict `not_in_grace` where none is.

    until: that time, or grace: how long from now; one of them. Never beyond the key's own expiry. Errors:
    ValidationError at `until` or `grace_seconds` for a time that is not later, and one above the group's ceiling.
    """
    with narrowing() as change, transaction.atomic():
        installation = policy.standing()
        key, now = _locked(key_id, expected), clock.now()
        permission = "keys.extend_grace_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL, permission, now)
        in_grace = list(key.versions.filter(valid_until__gt=now))
        if not in_grace:
            raise Conflict("not_in_grace", "No older value of this key is accepted.", permission=permission, obj=key)
        end = policy.extended_grace(key, until, grace, policy.rules_of(key.consumer_group, installation), now)
        before, key.grace_until = key.grace_until, end
        KeyVersion.objects.filter(pk__in=[version.pk for version in in_grace]).update(valid_until=end)
        key.save(update_fields=["grace_until"])
        detail = {"versions": sorted(version.number for version in in_grace)}
        old, new = {"grace_until": before}, {"grace_until": end}
        record(AuditAction.KEY_GRACE_EXTENDED, actor, _about(key), old, new, detail)
        _changed(key, change)
    return key


def shorten_grace(*, actor: Actor, key_id: UUID, within: Narrowing | None = None) -> GatewayKey:
    """Let no older value be accepted for longer than policy allows from now. Conflict `within_policy` where none is."""
    with narrowing(within=within) as change, transaction.atomic():
        installation = policy.standing()
        key, now = _locked(key_id), clock.now()
        permission = "keys.end_grace_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL, permission, now)
        end = now + policy.longest_grace(policy.rules_of(key.consumer_group, installation))
        longer = list(key.versions.filter(valid_until__gt=end))
        if not longer:
            message = "No older value of this key is accepted for longer than its policy allows."
            raise Conflict("within_policy", message, permission=permission, obj=key)
        KeyVersion.objects.filter(pk__in=[version.pk for version in longer]).update(
            valid_until=end, closed_at=now if end <= now else None
        )
        if end <= now:
            _grace_is_over(key, actor, longer)
        else:
            before, key.grace_until = key.grace_until, end
            key.save(update_fields=["grace_until"])
            detail = {"versions": sorted(version.number for version in longer)}
            old, new = {"grace_until": before}, {"grace_until": end}
            record(AuditAction.KEY_GRACE_SHORTENED, actor, _about(key), old, new, detail)
        _changed(key, change)
    return key


def close_grace(*, actor: Actor, key_id: UUID) -> bool:
    """Record that time has ended the grace of a key's versions; False where somebody else has, or it runs on."""
    with transaction.atomic():
        key, now = _locked(key_id), clock.now()
        over = list(key.versions.filter(valid_until__lte=now, closed_at__isnull=True))
        if not over:
            return False
        KeyVersion.objects.filter(pk__in=[version.pk for version in over]).update(closed_at=now)
        _grace_is_over(key, actor, over, still_until=_latest_grace(key, now))
    return True


def disable(
    *, actor: Actor, key_id: UUID, within: Narrowing | None = None, expected: Precondition | None = None
) -> GatewayKey:
    """Refuse the key until it is enabled again."""
    with narrowing(within=within) as change, transaction.atomic():
        key, now = _locked(key_id, expected), clock.now()
        permission = "keys.disable_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL | {KeyStatus.DISABLED}, permission, now)
        key.disabled_at = now
        key.save(update_fields=["disabled_at"])
        record(AuditAction.KEY_DISABLED, actor, _about(key), {"disabled_at": None}, {"disabled_at": now})
        _changed(key, change)
    return key


def enable(*, actor: Actor, key_id: UUID, expected: Precondition | None = None) -> GatewayKey:
    """Accept a disabled key again. Conflict `not_disabled` where it is not disabled.

    Conflict `policy_breached` where it breaks the policy of today, which it is to be brought into line with before.
    """
    with narrowing() as change, transaction.atomic():
        installation = policy.standing()
        key, now = _locked(key_id, expected), clock.now()
        permission = "keys.enable_gatewaykey"
        require(actor, permission, key)
        _refuse_when(key, FINAL, permission, now)
        if key.disabled_at is None:
            raise Conflict("not_disabled", "This key is not disabled.", permission=permission, obj=key)
        _refuse_breach(key, policy.rules_of(key.consumer_group, installation), permission, now)
        since, key.disabled_at, key.idle_from = key.disabled_at, None, now
        key.save(update_fields=["disabled_at", "idle_from"])
        record(AuditAction.KEY_ENABLED, actor, _about(key), {"disabled_at": since}, {"disabled_at": None})
        _changed(key, change)
    return key


def revoke(
    *,
    actor: Actor,
    key_id: UUID,
    reason: str = "",
    within: Narrowing | None = None,
    expected: Precondition | None = None,
) -> GatewayKey:
    """Refuse every value of the key for good. Of a revoked key nothing changes, and there is no second entry."""
    reason = clean_text(reason, field="reason", limit=500)
    with narrowing(within=within) as change, transaction.atomic():
        key = _locked(key_id, expected)
        require(actor, "keys.revoke_gatewaykey", key)
        # Also of a key that is revoked already: whoever asks again may not know whether the first time has arrived.
        _changed(key, change)
        if key.revoked_at is not None:
            return key
        before, now = snapshot(key), clock.now()
        key.versions.filter(valid_until__gt=now).update(valid_until=now, closed_at=now)
        key.revoked_at, key.revoked_by, key.revoke_reason = now, _member(actor), reason
        key.grace_until = None
        key.save(update_fields=["revoked_at", "revoked_by", "revoke_reason", "grace_until"])
        old, new = changes(before, snapshot(key))
        record(AuditAction.KEY_REVOKED, actor, _about(key), old, new)
    return key


def expire(*, actor: Actor, key_id: UUID) -> bool:
    """Record that time has expired a key; False where it has not, or somebody else has recorded it."""
    with transaction.atomic():
        key, now = _locked(key_id), clock.now()
        if key.expiry_recorded_at is not None or key.status_at(now) is not KeyStatus.EXPIRED:
            return False
        key.expiry_recorded_at = now
        key.save(update_fields=["expiry_recorded_at"])
        record(AuditAction.KEY_EXPIRED, actor, _about(key), {}, {"expires_at": key.expires_at})
    return True


def _changed(key: GatewayKey, change: Narrowing) -> None:
    change.of(Kind.KEY, key.pk)
    key.narrowing = change


def _locked(key_id: UUID, expected: Precondition | None = None) -> GatewayKey:
    # Ids never change: whoever writes usage of the key or its group must not wait for a verb, nor a verb for them.
    keys = GatewayKey.objects.select_for_update(of=("self",), no_key=True).select_related("consumer_group", "owner")
    key = keys.get(pk=key_id)
    if expected is not None:
        expected.require(key, state_tag(key))
    return key


def _locked_group(group: ConsumerGroup | None) -> ConsumerGroup | None:
    """Read the group again, so that its policy cannot change before the key that it was checked for is written."""
    if group is None:
        return None
    return ConsumerGroup.objects.select_for_update(no_key=True).get(pk=group.pk)


def _refuse_when(key: GatewayKey, statuses: frozenset[KeyStatus], permission: str, now: datetime) -> None:
    status = key.status_at(now)
    if status in statuses:
        way_out = "Create a new key instead." if status in FINAL else "Enable it first."
        if permission == "keys.disable_gatewaykey" and status is KeyStatus.DISABLED:
            way_out = "There is nothing to do."
        raise Conflict(f"key_{status}", f"This key is {status}. {way_out}", permission=permission, obj=key)


def _refuse_breach(key: GatewayKey, rules: policy.Rules, permission: str, now: datetime) -> None:
    """Raise where `rules` are broken by what the key has. Not by its idleness: that it was disabled explains it."""
    broken = [breach for breach in breaches(key, rules, now) if breach.kind is not BreachKind.IDLE]
    if broken:
        message = f"This key breaks its policy. {' '.join(breach.words for breach in broken)} Edit it first."
        raise Conflict("policy_breached", message, permission=permission, obj=key)


def _apply(key: GatewayKey, changed: Mapping[str, Any], installation: InstallationPolicy, now: datetime) -> None:
    if "name" in changed:
        key.name = clean_text(changed["name"], field="name", limit=100, required=True)
    if "description" in changed:
        key.description = clean_text(changed["description"], field="description", limit=2_000, lines=True)
    networks = key.allowed_networks
    if "allowed_networks" in changed:
        key.allowed_networks = clean_networks(changed["allowed_networks"])
    # Who is the owner already may stay it, also where they were taken out meanwhile.
    if "owner" in changed and changed["owner"] != key.owner:
        key.owner = _active(changed["owner"])
    moved = "consumer_group" in changed and _group_id(changed["consumer_group"]) != key.consumer_group_id
    if moved:
        key.consumer_group, key.idle_from = _locked_group(changed["consumer_group"]), now
    rules = policy.rules_of(key.consumer_group, installation)
    if moved or ("allowed_networks" in changed and key.allowed_networks != networks):
        policy.check_networks(key.allowed_networks, rules)
    reset = "expires_at" in changed and changed["expires_at"] != key.expires_at
    expires_at = changed["expires_at"] if reset else key.expires_at
    if moved or reset:
        policy.check_expiry(expires_at, rules, now)
    if reset:
        _set_expiry(key, expires_at, now)
        _cut_grace(key)
    if moved:
        policy.check_running_grace(key.grace_until, rules, now)


def _group_id(group: ConsumerGroup | None) -> int | None:
    return group.pk if group is not None else None


def _set_expiry(key: GatewayKey, expires_at: datetime | None, now: datetime) -> None:
    key.expires_at = expires_at
    key.lifetime = expires_at - now if expires_at is not None else None


def _show_hint(issued: IssuedKey) -> None:
    issued.key.hint = issued.version.hint
    issued.key.save(update_fields=["hint", "expires_at", "grace_until", "idle_from"])


def _cut_grace(key: GatewayKey) -> None:
    """Let no grace outlive the key: a nearer expiry, also one that today's policy has cut, ends what is running."""
    expires_at = key.expires_at
    if expires_at and key.versions.filter(valid_until__gt=expires_at).update(valid_until=expires_at):
        key.grace_until = expires_at


def _latest_grace(key: GatewayKey, now: datetime) -> datetime | None:
    latest = key.versions.filter(valid_until__gt=now).order_by("-valid_until").first()
    return latest.valid_until if latest else None


def _grace_is_over(
    key: GatewayKey, actor: Actor, versions: list[KeyVersion], *, still_until: datetime | None = None
) -> None:
    before, key.grace_until = key.grace_until, still_until
    key.save(update_fields=["grace_until"])
    detail = {"versions": sorted(version.number for version in versions)}
    record(
        AuditAction.KEY_GRACE_ENDED, actor, _about(key), {"grace_until": before}, {"grace_until": still_until}, detail
    )


def _member(actor: Actor) -> Member | None:
    return actor.authority if actor.kind is ActorKind.MEMBER and isinstance(actor.authority, Member) else None


def _active(owner: Member | None) -> Member | None:
    """Return the member as they are now; ValidationError at `owner` for one who was taken out."""
    if owner is None:
        return None
    found: Member | None = Member.objects.active().filter(pk=owner.pk).first()
    if found is None:
        raise ValidationError({"owner": ValidationError("There is no such active member.", code="does_not_exist")})
    return found


def _about(key: GatewayKey) -> Subject:
    return Subject("gateway_key", key.pk, key.name)

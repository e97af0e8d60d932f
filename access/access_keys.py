"""The one writer of access keys: create, edit and revoke; and who shows one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from access import tokens
from access.models import AccessKey, Member
from access.refusals import Conflict
from access.rules import require
from access.text import clean_text, refuse_unknown
from access.tokens import TokenKind
from access.unset import UNSET, Unset
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record

# How exact "last used" is; so often at most a request writes.
LAST_USED_STEP: Final = timedelta(minutes=1)
EDITABLE: Final = frozenset({"name"})
MOST_GROUPS: Final = 100


@dataclass(frozen=True, slots=True)
class IssuedAccessKey:
    """An access key and its value, which is known only now."""

    access_key: AccessKey
    value: str

    def __repr__(self) -> str:
        return f"IssuedAccessKey({self.access_key.hint})"


def create_access_key(
    *,
    actor: Actor,
    owner: Member,
    name: str,
    expires_at: datetime | Unset | None = UNSET,
    read_only: bool = False,
    consumer_groups: Collection[str] | None = None,
) -> IssuedAccessKey:
    """Make a credential for `owner` and return it with its value, shown this once.

    It does what the owner's role allows at the time of each request, or less. expires_at: not said = after the
    default lifetime; None = never, where the installation has no ceiling. consumer_groups: slugs of the groups whose
    keys alone it sees and touches; None = as the role says. Errors: Forbidden for anybody but the owner (and the
    system); ValidationError at `name`, `expires_at` or `consumer_groups`.
    """
    name = clean_text(name, field="name", limit=100, required=True)
    now = clock.now()
    expires_at = default_expiry(now) if isinstance(expires_at, Unset) else expires_at
    _check_expiry(expires_at, now)
    groups = [] if consumer_groups is None else _chosen_groups(owner, consumer_groups)
    require(actor, "access.add_accesskey", AccessKey(owner=owner, name=name))
    value = tokens.generate(TokenKind.ACCESS_KEY)
    with transaction.atomic():
        access_key = AccessKey.objects.create(
            owner=owner,
            name=name,
            digest=tokens.digest(value),
            hint=tokens.hint(value),
            created_at=now,
            expires_at=expires_at,
            read_only=read_only,
            limited_to_groups=consumer_groups is not None,
        )
        access_key.consumer_groups.set(groups)
        record(AuditAction.ACCESS_KEY_CREATED, actor, _about(access_key), {}, snapshot(access_key))
    return IssuedAccessKey(access_key, value)


def edit_access_key(*, actor: Actor, access_key_id: UUID, changed: Mapping[str, Any]) -> AccessKey:
    """Give an access key another name; what is not named stays, and nothing new is no entry. Its limits are for good.

    Errors: AccessKey.DoesNotExist; Forbidden for anybody but the owner and Admins; Conflict `access_key_revoked`;
    ValidationError at the field.
    """
    refuse_unknown(changed, EDITABLE)
    with transaction.atomic():
        access_key = _locked(access_key_id)
        permission = "access.change_accesskey"
        require(actor, permission, access_key)
        if access_key.revoked_at is not None:
            detail = "This access key is revoked. Create a new one instead."
            raise Conflict("access_key_revoked", detail, permission=permission, obj=access_key)
        before = snapshot(access_key)
        if "name" in changed:
            access_key.name = clean_text(changed["name"], field="name", limit=100, required=True)
        old, new = changes(before, snapshot(access_key))
        if new:
            access_key.save(update_fields=["name"])
            record(AuditAction.ACCESS_KEY_EDITED, actor, _about(access_key), old, new)
    return access_key


def revoke_access_key(*, actor: Actor, access_key_id: UUID) -> AccessKey:
    """Make an access key useless from the next request on; again is no error and writes nothing.

    Errors: AccessKey.DoesNotExist; Forbidden for anybody but the owner and Admins.
    """
    with transaction.atomic():
        access_key = _locked(access_key_id)
        require(actor, "access.revoke_accesskey", access_key)
        if access_key.revoked_at is None:
            before, access_key.revoked_at = snapshot(access_key), clock.now()
            access_key.save(update_fields=["revoked_at"])
            old, new = changes(before, snapshot(access_key))
            record(AuditAction.ACCESS_KEY_REVOKED, actor, _about(access_key), old, new)
    return access_key


def revoke_all(*, actor: Actor, owner: Member) -> int:
    """Revoke what is left of a member's access keys, in the caller's transaction, an entry for each; return how many.

    No permission of its own: it is part of taking a member out (access/members.py).
    """
    held = list(AccessKey.objects.select_for_update(no_key=True).filter(owner=owner, revoked_at__isnull=True))
    for access_key in held:
        access_key.owner = owner
        before, access_key.revoked_at = snapshot(access_key), clock.now()
        access_key.save(update_fields=["revoked_at"])
        old, new = changes(before, snapshot(access_key))
        record(AuditAction.ACCESS_KEY_REVOKED, actor, _about(access_key), old, new, {"why": "its owner was taken out"})
    return len(held)


def find_usable(value: str) -> AccessKey | None:
    """Return the access key of this value if it may be used now, with its owner; else None.

    Usable: not revoked, not expired, owner active. Also notes when it was last used, to within a minute.
    """
    if not tokens.is_well_formed(value, TokenKind.ACCESS_KEY):
        return None
    now = clock.now()
    access_key = AccessKey.objects.select_related("owner").filter(digest=tokens.digest(value)).first()
    if access_key is None or access_key.status(now) != "active" or not access_key.owner.is_active:
        return None
    if access_key.last_used_at is None or access_key.last_used_at < now - LAST_USED_STEP:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_STEP)
        AccessKey.objects.filter(stale, pk=access_key.pk).update(last_used_at=now)
    return access_key


def default_expiry(now: datetime) -> datetime:
    """Return when an access key expires whose maker said nothing of it."""
    lifetime: timedelta = settings.KEEPTRUSTS_ACCESS_KEY_LIFETIME
    return now + lifetime


def longest_lifetime() -> timedelta | None:
    """Return how long an access key may live; None where there is no ceiling, and it need not expire at all."""
    return settings.KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    most = longest_lifetime()
    message, code = "", ""
    if expires_at is not None and expires_at <= now:
        message, code = "This lies in the past.", "in_the_past"
    elif most is not None and expires_at is None:
        message, code = f"It has to expire, within {most.days:,} days.", "required"
    elif most is not None and expires_at is not None and expires_at > now + most:
        message, code = f"An access key lives for {most.days:,} days at most.", "above_maximum"
    if message:
        raise ValidationError({"expires_at": ValidationError(message, code=code)})


def _chosen_groups(owner: Member, slugs: Collection[str]) -> list[Any]:
    """Return the groups of these slugs, of which the owner sees each. Errors: ValidationError at `consumer_groups`."""
    wanted = dict.fromkeys(slugs)
    message, code = "", ""
    if not wanted:
        message, code = "Name one group at least, or leave this out: as the role says.", "empty"
    elif len(wanted) > MOST_GROUPS:
        message, code = f"At most {MOST_GROUPS} groups.", "max_length"
    else:
        groups = AccessKey._meta.get_field("consumer_groups").related_model
        seen = owner.visible(groups._default_manager.filter(slug__in=wanted))
        found = {str(getattr(group, "slug", "")): group for group in seen}
        if not (unknown := [slug for slug in wanted if slug not in found]):
            return list(found.values())
        message, code = f"There is no consumer group “{unknown[0][:60]}” that you may see.", "does_not_exist"
    raise ValidationError({"consumer_groups": ValidationError(message, code=code)})


def _locked(access_key_id: UUID) -> AccessKey:
    keys = AccessKey.objects.select_for_update(of=("self",), no_key=True).select_related("owner")
    return keys.get(pk=access_key_id)


def _about(access_key: AccessKey) -> Subject:
    return Subject("access_key", access_key.pk, access_key.name)


def snapshot(access_key: AccessKey) -> dict[str, Any]:
    """Return what the audit log says of an access key."""
    return {
        "name": access_key.name,
        "owner": access_key.owner.username,
        "hint": access_key.hint,
        "read_only": access_key.read_only,
        "consumer_groups": access_key.group_slugs(),
        "expires_at": access_key.expires_at,
        "revoked_at": access_key.revoked_at,
    }

"""The one writer of access keys: create and revoke; and who shows one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from access import tokens
from access.models import AccessKey, Member
from access.rules import require
from access.text import clean_text
from access.tokens import TokenKind
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record

# How exact "last used" is; so often at most a request writes.
LAST_USED_STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class IssuedAccessKey:
    """An access key and its value, which is known only now."""

    access_key: AccessKey
    value: str

    def __repr__(self) -> str:
        return f"IssuedAccessKey({self.access_key.hint})"


def create_access_key(*, actor: Actor, owner: Member, name: str, expires_at: datetime | None = None) -> IssuedAccessKey:
    """Make a credential for `owner` and return it with its value, shown this once.

    expires_at: None = until revoked. Errors: Forbidden for anybody but the owner (and the system);
    ValidationError at `name` or `expires_at`.
    """
    name = clean_text(name, field="name", limit=100, required=True)
    now = clock.now()
    if expires_at is not None and expires_at <= now:
        raise ValidationError({"expires_at": ValidationError("This lies in the past.", code="in_the_past")})
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
        )
        record(AuditAction.ACCESS_KEY_CREATED, actor, _about(access_key), {}, snapshot(access_key))
    return IssuedAccessKey(access_key, value)


def revoke_access_key(*, actor: Actor, access_key_id: UUID) -> AccessKey:
    """Make an access key useless from the next request on; again is no error and writes nothing.

    Errors: AccessKey.DoesNotExist; Forbidden for anybody but the owner and Admins.
    """
    with transaction.atomic():
        access_key = (
            AccessKey.objects.select_for_update(of=("self",), no_key=True).select_related("owner").get(pk=access_key_id)
        )
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


def _about(access_key: AccessKey) -> Subject:
    return Subject("access_key", access_key.pk, access_key.name)


def snapshot(access_key: AccessKey) -> dict[str, Any]:
    """Return what the audit log says of an access key."""
    return {
        "name": access_key.name,
        "owner": access_key.owner.username,
        "hint": access_key.hint,
        "expires_at": access_key.expires_at,
        "revoked_at": access_key.revoked_at,
    }

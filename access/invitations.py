"""The one writer of invitations: a member is added by a link with which they choose their own password.

The secret of a link stands in the part of the address after "#", which browsers send to no server: it gets into no
log of a proxy, and into no Referer. Of it, only the SHA-256 is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from access import tokens
from access.members import about, check_password, snapshot
from access.models import Invitation, Member
from access.refusals import Conflict
from access.rules import Role, require
from access.signals import joined
from access.text import clean_text
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.recording import record

OPEN = Q(accepted_at__isnull=True, withdrawn_at__isnull=True)
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Invited:
    """A member and the secret of their link, which is known only now."""

    member: Member
    invitation: Invitation
    secret: str = field(repr=False)


class LinkTrouble(StrEnum):
    """Why a link lets nobody in."""

    UNKNOWN = "unknown"
    USED = "used"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class LinkRefused(Exception):
    """This link lets nobody in."""

    def __init__(self, trouble: LinkTrouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


def invite_member(
    *, actor: Actor, username: str, role: str, name: str = "", email: str = "", groups: Iterable[Any] = ()
) -> Invited:
    """Add a member who can sign in once they have opened their link and chosen a password; return both.

    groups: the consumer groups that name a Manager among their managers as soon as they have joined, not before.
    Errors: Forbidden; ValidationError at the field for a taken or malformed username, an unknown role, and groups for
    another role than Manager.
    """
    require(actor, "access.add_member")
    chosen = list(groups)
    if chosen and role != Role.MANAGER:
        message = "Only Managers are named by groups: the other roles see all of them."
        raise ValidationError({"groups": ValidationError(message, code="not_a_manager")})
    member: Member = Member(
        username=clean_text(username, field="username", limit=150, required=True),
        name=clean_text(name, field="name", limit=150),
        email=clean_text(email, field="email", limit=254),
        role=role,
        is_active=False,
        date_joined=clock.now(),
    )
    member.set_unusable_password()
    with transaction.atomic():
        member.full_clean()
        member.save(force_insert=True)
        invited = _invite(member, chosen)
        detail: dict[str, Any] = {"expires_at": invited.invitation.expires_at}
        if chosen:
            detail["groups_to_manage"] = sorted(group.slug for group in chosen)
        record(AuditAction.MEMBER_INVITED, actor, about(member), {}, snapshot(member), detail)
    return invited


def replace_invitation(*, actor: Actor, member_id: int) -> Invited:
    """Give a member who has not joined another link, which alone is valid from now on, for the same groups.

    Errors: Forbidden; Conflict `already_joined`.
    """
    with transaction.atomic():
        member = _not_joined(actor, member_id)
        replaced = _end_open(member)
        last = member.invitations.order_by("-created_at", "-pk").first()
        invited = _invite(member, last.groups.all() if last else ())
        detail = {"expires_at": invited.invitation.expires_at, "replaced": bool(replaced)}
        record(AuditAction.MEMBER_INVITED, actor, about(member), detail=detail)
    return invited


def withdraw_invitation(*, actor: Actor, member_id: int) -> Member:
    """Let the link of a member who has not joined lead nowhere; return them. Without an open one, nothing is written.

    Errors: Forbidden; Conflict `already_joined`.
    """
    with transaction.atomic():
        member = _not_joined(actor, member_id)
        if _end_open(member):
            record(AuditAction.MEMBER_INVITATION_WITHDRAWN, actor, about(member))
    return member


def find_invitation(secret: str) -> Invitation:
    """Return the invitation of a link that lets somebody in now. Errors: LinkRefused, with why not."""
    found = Invitation.objects.select_related("member").filter(digest=_digest(secret)).first()
    if found is None:
        raise LinkRefused(LinkTrouble.UNKNOWN)
    _refuse_ended(found)
    return found


def accept_invitation(*, secret: str, password: str, ip: str | None) -> Member:
    """Let the holder of a link in as the member it invites, with this password; return them. The link is used up.

    The groups that were chosen for a Manager name them from the same moment on.

    Errors: LinkRefused; ValidationError at `password`.
    """
    found = find_invitation(secret)
    with transaction.atomic():
        # The member first, as everywhere: who replaces or withdraws the link at this moment is waited for.
        member: Member = Member.objects.select_for_update(no_key=True).get(pk=found.member_id)
        invitation: Invitation = Invitation.objects.select_for_update(no_key=True).get(pk=found.pk)
        _refuse_ended(invitation)
        check_password(password, member)
        member.set_password(password)
        member.is_active, member.date_joined = True, clock.now()
        member.save(update_fields=["password", "is_active", "date_joined"])
        invitation.accepted_at = member.date_joined
        invitation.save(update_fields=["accepted_at"])
        actor = Actor(
            kind=ActorKind.MEMBER,
            id=str(member.pk),
            label=member.username,
            credential="invitation link",
            ip=ip,
            authority=member,
        )
        record(AuditAction.MEMBER_JOINED, actor, about(member), {"is_active": False}, {"is_active": True})
        joined.send(Member, invitation=invitation, actor=actor)
    return member


def _invite(member: Member, groups: Iterable[Any]) -> Invited:
    secret, now = secrets.token_urlsafe(SECRET_BYTES), clock.now()
    invitation = Invitation.objects.create(
        member=member, digest=_digest(secret), created_at=now, expires_at=now + Invitation.LIFETIME
    )
    invitation.groups.set(groups)
    return Invited(member, invitation, secret)


def _not_joined(actor: Actor, member_id: int) -> Member:
    member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
    require(actor, "access.change_member", member)
    if member.has_joined:
        raise Conflict("already_joined", "They have joined already.", permission="access.change_member", obj=member)
    return member


def _end_open(member: Member) -> int:
    return Invitation.objects.filter(OPEN, member=member).update(withdrawn_at=clock.now())


def _refuse_ended(invitation: Invitation) -> None:
    if invitation.accepted_at is not None:
        raise LinkRefused(LinkTrouble.USED)
    if invitation.withdrawn_at is not None:
        raise LinkRefused(LinkTrouble.WITHDRAWN)
    if invitation.expires_at <= clock.now():
        raise LinkRefused(LinkTrouble.EXPIRED)


def _digest(secret: str) -> bytes:
    return tokens.digest(secret)

"""The one writer of members: add, edit, change role, take out and let in again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from access.access_keys import revoke_all
from access.models import Member, NoticeMail
from access.preconditions import Precondition, tag_of
from access.refusals import Conflict, Forbidden
from access.rules import Role, require
from access.sessions import delete_sessions
from access.text import clean_text, refuse_unknown
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record

TEXTS = ("name", "email")
EDITABLE = (*TEXTS, "role", "is_active")
PREFERENCES = frozenset({"time_zone", "notice_mail"})
NOT_JOINED = "They have not joined yet. Give them an invitation link."


def create_member(*, actor: Actor, username: str, password: str, role: str, name: str = "", email: str = "") -> Member:
    """Add a member who can sign in at once; return them.

    Errors: Forbidden; ValidationError at the field for a taken or malformed username, an unknown role, a password
    that is too weak.
    """
    require(actor, "access.add_member")
    member: Member = Member(
        username=clean_text(username, field="username", limit=150, required=True),
        name=clean_text(name, field="name", limit=150),
        email=clean_text(email, field="email", limit=254),
        role=role,
        date_joined=clock.now(),
    )
    check_password(password, member)
    member.set_password(password)
    with transaction.atomic():
        member.full_clean()
        member.save(force_insert=True)
        record(AuditAction.MEMBER_CREATED, actor, about(member), {}, snapshot(member))
    return member


@dataclass(frozen=True, slots=True)
class Ended:
    """What ended with a member who was taken out: how many sessions, and how many access keys that were not revoked."""

    sessions: int = 0
    access_keys: int = 0


def edit_member(
    *, actor: Actor, member_id: int, changed: Mapping[str, Any], expected: Precondition | None = None
) -> Member:
    """Give a member other particulars, another role, or take them out (`is_active` false); return them.

    Taken out, their sessions end and their access keys are revoked for good. One audit entry for each kind of change,
    and for each access key. Errors: Forbidden; Conflict `last_admin` where no active Admin would be left, and
    `not_joined` where a member is let in who has never chosen a password; PreconditionFailed where they are not in the
    state that is expected; ValidationError.
    """
    return _edit(actor, member_id, changed, expected)[0]


def take_out(*, actor: Actor, member_id: int, expected: Precondition | None = None) -> Ended:
    """Keep a member out: no session and no access key of theirs is accepted any more; return what ended.

    Errors: Forbidden; Conflict `last_admin`; PreconditionFailed.
    """
    return _edit(actor, member_id, {"is_active": False}, expected)[1]


def _edit(
    actor: Actor, member_id: int, changed: Mapping[str, Any], expected: Precondition | None
) -> tuple[Member, Ended]:
    refuse_unknown(changed, EDITABLE)
    ended = Ended()
    with transaction.atomic():
        # All Admins are locked, so that two of them cannot take each other out at the same time.
        admins = list(
            Member.objects.select_for_update(no_key=True).filter(role=Role.ADMIN, is_active=True).order_by("pk")
        )
        member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
        require(actor, "access.change_member", member)
        if expected is not None:
            expected.require(member, state_tag(member))
        before = snapshot(member)
        for field, value in changed.items():
            setattr(member, field, clean_text(value, field=field, limit=254) if isinstance(value, str) else value)
        member.full_clean()
        after = snapshot(member)
        if before == after:
            return member, ended
        stays_admin = member.is_active and member.role == Role.ADMIN
        if [admin.pk for admin in admins] == [member.pk] and not stays_admin:
            raise Conflict(
                "last_admin",
                "This is the last active Admin. Make somebody else an Admin first.",
                permission="access.change_member",
                obj=member,
            )
        if member.is_active and not before["is_active"] and not member.has_joined:
            raise Conflict("not_joined", NOT_JOINED, permission="access.change_member", obj=member)
        member.save(update_fields=EDITABLE)
        _record_changes(actor, member, before, after)
        if before["is_active"] and not member.is_active:
            ended = Ended(sessions=delete_sessions(member), access_keys=revoke_all(actor=actor, owner=member))
    return member, ended


def set_password(*, actor: Actor, member_id: int, password: str, keep_session: str | None = None) -> Member:
    """Give a member another password, which ends all their sessions but the one with the key `keep_session`.

    Errors: Forbidden; Conflict `not_joined`; ValidationError.
    """
    with transaction.atomic():
        member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
        if actor.id != str(member.pk):
            require(actor, "access.change_member", member)
        if not member.has_usable_password():
            raise Conflict("not_joined", NOT_JOINED, permission="access.change_member", obj=member)
        check_password(password, member)
        member.set_password(password)
        member.save(update_fields=["password"])
        ended = delete_sessions(member, keep=keep_session)
        record(AuditAction.MEMBER_PASSWORD_CHANGED, actor, about(member), detail={"sessions_ended": ended})
    return member


def set_preferences(*, actor: Actor, member_id: int, changed: Mapping[str, Any]) -> Member:
    """Keep what a member, who is the actor, wants for themselves; what is not named stays. Nothing new is no entry.

    changed: `time_zone`, in which times are shown to them; `notice_mail`, whether `important` notices, `all` or `none`
    are mailed to them. Errors: Forbidden, for another member, and for an access key that is held to less than its
    owner may do; ValidationError at the field.
    """
    refuse_unknown(changed, PREFERENCES)
    if changed.get("time_zone", "UTC") not in available_timezones():
        message = "This is no time zone. Use an IANA name such as Europe/Berlin."
        raise ValidationError({"time_zone": ValidationError(message, code="unknown_time_zone")})
    if changed.get("notice_mail", "all") not in NoticeMail.values:
        message = f"One of {', '.join(NoticeMail.values)}."
        raise ValidationError({"notice_mail": ValidationError(message, code="invalid_choice")})
    with transaction.atomic():
        member: Member = Member.objects.select_for_update(no_key=True).get(pk=member_id)
        require(actor, "access.prefer_member")
        if actor.id != str(member.pk):
            raise Forbidden("access.change_member", member)
        before = {field: getattr(member, field) for field in PREFERENCES}
        old, new = changes(before, {**before, **changed})
        if new:
            for field, value in new.items():
                setattr(member, field, value)
            member.save(update_fields=list(new))
            record(AuditAction.MEMBER_EDITED, actor, about(member), old, new)
    return member


def snapshot(member: Member) -> dict[str, Any]:
    """Return what the audit log says of a member."""
    return {"username": member.username} | {field: getattr(member, field) for field in EDITABLE}


def state_tag(member: Member) -> str:
    """Return the tag of a member's state (access/preconditions.py)."""
    return tag_of({"id": member.pk, **snapshot(member)})


def check_password(password: str, member: Member) -> None:
    """Return if `member` may have this password. Errors: ValidationError at `password`."""
    try:
        validate_password(password, member)
    except ValidationError as error:
        raise ValidationError({"password": error.error_list}) from error


def _record_changes(actor: Actor, member: Member, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    activity = AuditAction.MEMBER_REACTIVATED if member.is_active else AuditAction.MEMBER_DEACTIVATED
    kinds = {AuditAction.MEMBER_ROLE_CHANGED: ("role",), activity: ("is_active",), AuditAction.MEMBER_EDITED: TEXTS}
    for action, fields in kinds.items():
        old, new = changes({field: before[field] for field in fields}, {field: after[field] for field in fields})
        if new:
            record(action, actor, about(member), old, new)


def about(member: Member) -> Subject:
    """Return a member as what an audit entry is about."""
    return Subject("member", member.pk, member.username)

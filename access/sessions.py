"""Sessions of the console: begun at sign-in, shown to their member, ended one by one or all at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest

from access.actors import client_ip
from access.models import Member, MemberSession
from access.refusals import Forbidden
from access.session_store import ABOUT
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, record

# In a session: when its member last proved who they are, and whether by a second factor too.
CONFIRMED_AT: Final = "confirmed_at"
SECOND_FACTOR: Final = "second_factor"
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows")),
    *(("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as its member is shown it. handle: what it is called in an address; the key stays unknown."""

    handle: str
    device: str
    address: str | None
    method: str
    signed_in_at: datetime | None
    last_seen_at: datetime
    is_this: bool


def begin(request: HttpRequest, member: Member, *, method: str, second_factor: bool) -> None:
    """Let the session that Django has just opened say whose it is, and end when its lifetime is over."""
    now = clock.now()
    request.session[ABOUT] = {
        "member": member.pk,
        "role": member.role,
        "method": method[:100],
        "device": device_of(request),
        "address": client_ip(request),
        "at": now.isoformat(),
    }
    request.session.set_expiry(now + settings.KEEPTRUSTS_SESSION_LIFETIME)
    confirm(request.session, second_factor=second_factor)


def confirm(session: SessionBase, *, second_factor: bool) -> None:
    """Note that the member has just proven who they are."""
    session[CONFIRMED_AT] = clock.now().timestamp()
    session[SECOND_FACTOR] = session.get(SECOND_FACTOR, False) or second_factor


def sessions_of(member: Member, *, current: str | None = None) -> list[Session]:
    """Return the sessions that are still good, the last used first. current: the key of the one that asks."""
    return [
        Session(
            handle=_handle(row.session_key),
            device=row.device or "unknown",
            address=row.address,
            method=row.method,
            signed_in_at=row.signed_in_at,
            last_seen_at=row.last_seen_at,
            is_this=row.session_key == current,
        )
        for row in _live(member).order_by("-last_seen_at")
    ]


def end_session(*, actor: Actor, member_id: int, handle: str) -> bool:
    """End one session of a member; say whether there was one. Errors: Forbidden for others than them and Admins."""
    with transaction.atomic():
        member = _may_end(actor, member_id)
        found = [row for row in _live(member) if _handle(row.session_key) == handle]
        _end(actor, member, [row.session_key for row in found])
    return bool(found)


def end_sessions(*, actor: Actor, member_id: int, keep: str | None = None) -> int:
    """End all sessions of a member, but that with the key `keep`; return how many were still good.

    Errors: Forbidden for others than them and Admins.
    """
    with transaction.atomic():
        member = _may_end(actor, member_id)
        keys = [row.session_key for row in _live(member) if row.session_key != keep]
        _end(actor, member, keys)
    return len(keys)


def delete_sessions(member: Member, *, keep: str | None = None) -> int:
    """Delete the sessions of a member, in the caller's transaction, as part of what it records; return how many."""
    return MemberSession.objects.filter(member=member).exclude(session_key=keep).delete()[0]


def device_of(request: HttpRequest) -> str:
    """Return what a person calls the device: "Firefox on Linux", or the beginning of what it says of itself."""
    agent = request.headers.get("User-Agent", "")
    browser = next((name for word, name in _BROWSERS if word in agent), "")
    system = next((name for word, name in _SYSTEMS if word in agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return re.sub(r"[^\x20-\x7e]", "", agent)[:60] or "unknown device"


def _live(member: Member) -> Any:
    now = clock.now()
    idle = Q(last_seen_at__gt=now - settings.KEEPTRUSTS_SESSION_IDLE)
    return MemberSession.objects.filter(idle, member=member, expire_date__gt=now)


def _may_end(actor: Actor, member_id: int) -> Member:
    member: Member = Member.objects.get(pk=member_id)
    if actor.id != str(member.pk) and not actor.may("access.change_member", member):
        raise Forbidden("access.change_member", member)
    return member


def _end(actor: Actor, member: Member, keys: list[str]) -> None:
    if keys:
        MemberSession.objects.filter(session_key__in=keys).delete()
        about = Subject("session", member.pk, member.username)
        record(AuditAction.SESSION_ENDED, actor, about, detail={"sessions": len(keys)})


def _handle(session_key: str) -> str:
    return sha256(session_key.encode()).hexdigest()[:16]

"""Sign-in, sign-out and failed sign-in become audit entries; a session that begins says whose it is."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from access.actors import client_ip, member_actor, request_actor
from access.models import Member
from access.sessions import begin
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, record

BY_PASSWORD: dict[str, Any] = {"method": "password", "second_factor": False}


@receiver(user_logged_in)
def record_sign_in(*, request: HttpRequest, user: Member, **_: Any) -> None:
    how = getattr(request, "sign_in", BY_PASSWORD)
    begin(request, user, **how)
    _record(AuditAction.SESSION_SIGNED_IN, member_actor(user, credential=how["method"], ip=client_ip(request)), user)


@receiver(user_logged_out)
def record_sign_out(*, request: HttpRequest, user: Member | None, **_: Any) -> None:
    if user is not None:
        _record(AuditAction.SESSION_SIGNED_OUT, member_actor(user, credential="session", ip=client_ip(request)), user)


@receiver(user_login_failed)
def record_failure(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    # What was typed as a username may be a password: only a name that exists is kept.
    typed = str(credentials.get("username") or "").replace("\x00", "")
    member = Member.objects.filter(username=typed).first()
    detail = {"method": getattr(request, "tried", "password")}
    if request is not None and member is not None and getattr(request, "user", None) == member:
        # They are signed in, and were asked to prove who they are once more.
        _record(AuditAction.SESSION_CONFIRMATION_FAILED, request_actor(request), member, detail)
        return
    label = member.username if member else "unknown username"
    actor = Actor.anonymous(label=label, ip=client_ip(request) if request else None)
    _record(AuditAction.SESSION_SIGN_IN_FAILED, actor, member, detail)


def typed_username(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return what the throttle on failed sign-ins knows a username by: a digest, because it may be a secret."""
    typed = credentials.get("username") if credentials else request.POST.get("username")
    return hashlib.sha256(str(typed or "").encode(errors="replace")).hexdigest()


def _record(action: AuditAction, actor: Actor, member: Member | None, detail: dict[str, Any] | None = None) -> None:
    about = Subject("session", member.pk, member.username) if member else Subject("session")
    with transaction.atomic():
        record(action, actor, about, detail=detail)

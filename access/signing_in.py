"""The one way in: whoever has proven a first factor, or is vouched for, gets a session here or is asked for more."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_lockout_response
from django.contrib.auth import login
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from access.actors import client_ip
from access.models import Member
from access.second_factors import has_second_factor
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, record

BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
# For so long a password that was right waits for its second factor.
PENDING_FOR: Final = timedelta(minutes=5)
_PENDING: Final = "pending_sign_in"


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody who knows a member's password, and has yet to show the second factor."""

    member: Member
    method: str
    next_url: str


def proceed(request: HttpRequest, member: Member, *, method: str, next_url: str) -> HttpResponse:
    """Sign the member in, or ask for their second factor first."""
    if not has_second_factor(member):
        return complete(request, member, method=method, second_factor=False, next_url=next_url)
    request.session[_PENDING] = {
        "member": member.pk,
        "method": method,
        "next": next_url,
        "at": clock.now().timestamp(),
        # A password that is changed meanwhile was not this one.
        "hash": member.get_session_auth_hash(),
    }
    return HttpResponseRedirect(reverse("admin:second_factor"))


def complete(
    request: HttpRequest, member: Member, *, method: str, second_factor: bool, next_url: str
) -> HttpResponseRedirect:
    """Sign the member in, in a session with a new key. method: as the audit log says it."""
    request.session.pop(_PENDING, None)
    request.sign_in = {"method": method, "second_factor": second_factor}  # type: ignore[attr-defined]  # ours
    login(request, member, backend=BACKEND)
    return HttpResponseRedirect(next_url)


def find_pending(request: HttpRequest) -> Pending | None:
    """Return whose second factor is awaited in this browser; None where nobody's is, or not any more."""
    noted: dict[str, Any] | None = request.session.get(_PENDING)
    if noted is None or clock.now().timestamp() - noted["at"] > PENDING_FOR.total_seconds():
        return None
    member = Member.objects.active().filter(pk=noted["member"]).first()
    if member is None or not hmac.compare_digest(member.get_session_auth_hash(), noted["hash"]):
        return None
    return Pending(member, noted["method"], noted["next"])


def forget_pending(request: HttpRequest) -> None:
    request.session.pop(_PENDING, None)


def refuse_locked(
    request: HttpRequest, username: str, *, may_try: Callable[[HttpRequest, str], bool]
) -> HttpResponse | None:
    """Return the page that says so where this name may not be tried now, from this address or from anywhere.

    may_try: what counts attempts of this kind (access/throttles.py).
    """
    credentials = {"username": username}
    if not may_try(request, username):
        return render(request, "admin/locked_out.html", {"too_many": True}, status=HTTPStatus.TOO_MANY_REQUESTS)
    if AxesProxyHandler.is_allowed(request, credentials):
        return None
    locked: HttpResponse = get_lockout_response(request, credentials=credentials)
    return locked


def note_failure(request: HttpRequest, username: str, *, method: str) -> None:
    """Count a failed attempt for this name and address, and record it."""
    request.tried = method  # type: ignore[attr-defined]  # ours
    user_login_failed.send(sender=__name__, credentials={"username": username}, request=request)


def note_refused(request: HttpRequest, method: str, why: str) -> None:
    """Record that a provider's word let nobody in. Counted for nobody: it was not our secret that was tried."""
    actor = Actor.anonymous(label="unknown", ip=client_ip(request))
    with transaction.atomic():
        record(AuditAction.SESSION_SIGN_IN_FAILED, actor, Subject("session"), detail={"method": method, "code": why})

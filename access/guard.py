"""What is asked of every request with a session: is it in use, does it fit the role, is a second factor still owed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.urls import reverse

from access.confirmation import ConfirmationNeeded, confirm_address, lead_to_confirm
from access.errors import error_body
from access.models import Member, MemberSession
from access.second_factors import has_second_factor, needs_second_factor
from access.session_store import ABOUT, SessionStore
from access.sessions import SECOND_FACTOR
from audit import clock

# "Last seen" is written no more often than this.
SEEN_STEP: Final = timedelta(minutes=1)
# What is open to who still owes a second factor: to add one, to use one, and to leave.
OPEN_WITHOUT: Final = frozenset(
    f"admin:{name}"
    for name in ("account", "add_authenticator", "add_passkey", "passkey_options", "confirm", "logout", "jsi18n")
)
OWED: Final = "Your role needs a second factor. Add an authenticator app or a passkey to go on."


class SessionGuard:
    """Stands before every view of the console, and of the management API where it is called with a session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        in_console = request.path.startswith(reverse("admin:index"))
        if not (in_console or request.path.startswith("/api/v1/")) or not isinstance(request.user, Member):
            return None
        _note_use(request)
        about = request.session.get(ABOUT)
        if about and about.get("role") != request.user.role:
            # Another role, another session key: whoever knew the old one has no part in it.
            request.session[ABOUT] = about | {"role": request.user.role}
            request.session.cycle_key()
        if request.session.get(SECOND_FACTOR) or not needs_second_factor(request.user):
            return None
        return _owed(request, request.user, in_console)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return lead_to_confirm(request) if isinstance(exception, ConfirmationNeeded) else None


def _note_use(request: HttpRequest) -> None:
    row = request.session.row if isinstance(request.session, SessionStore) else None
    now = clock.now()
    if row is not None and row.last_seen_at < now - SEEN_STEP:
        # A database that only reads at the moment must not close the console's pages.
        with suppress(DatabaseError), transaction.atomic():
            MemberSession.objects.filter(pk=row.pk, last_seen_at__lt=now - SEEN_STEP).update(last_seen_at=now)


def _owed(request: HttpRequest, member: Member, in_console: bool) -> HttpResponseBase | None:
    match = request.resolver_match
    if in_console and match is not None and match.view_name in OPEN_WITHOUT:
        return None
    if not in_console:
        return JsonResponse(error_body("second_factor_needed", OWED), status=403, headers={"Cache-Control": "no-store"})
    if has_second_factor(member):
        return HttpResponseRedirect(confirm_address(request.get_full_path()))
    messages.warning(request, OWED)
    return HttpResponseRedirect(reverse("admin:account"))

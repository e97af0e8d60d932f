"""What is grave is done only by who has proven a moment ago that they are who they are.

That is: roles, members, one's own ways to sign in, new access keys. Never what stops something (revoke, disable, end a
session): an incident is in a hurry. Access keys prove nothing again: nobody sits behind them.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from rest_framework.request import Request

from access.errors import ApiError
from access.sessions import CONFIRMED_AT
from audit import clock


class ConfirmationNeeded(PermissionDenied):
    """The member must prove who they are before this; the guard leads them to where they do (access/guard.py)."""


def is_confirmed(request: HttpRequest) -> bool:
    """Say whether the member has proven who they are within KEEPTRUSTS_CONFIRM_MINUTES."""
    age = clock.now().timestamp() - request.session.get(CONFIRMED_AT, 0)
    return bool(age < settings.KEEPTRUSTS_CONFIRMED_FOR.total_seconds())


def require_confirmed(request: HttpRequest) -> None:
    """Return if the member has proven who they are a moment ago; else ConfirmationNeeded."""
    if not is_confirmed(request):
        raise ConfirmationNeeded


def require_confirmed_caller(request: Request) -> None:
    """Return for an access key, and for a session that is confirmed; else ApiError 403 `confirmation_needed`."""
    if request.auth is None and not is_confirmed(request._request):
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            "confirmation_needed",
            f"Confirm who you are at {reverse('admin:confirm')}, then send this again; or use an access key.",
        )


def lead_to_confirm(request: HttpRequest) -> HttpResponse:
    """Answer with the way to the page that asks, and from there back to where the member is now."""
    if request.headers.get("HX-Request"):
        here = urlsplit(request.headers.get("HX-Current-URL", ""))
        # Not a redirect, which htmx would follow into the dialog.
        return HttpResponse(headers={"HX-Redirect": confirm_address(f"{here.path}?{here.query}".rstrip("?"))})
    return HttpResponseRedirect(confirm_address(request.get_full_path()))


def confirm_address(next_url: str) -> str:
    return f"{reverse('admin:confirm')}?{urlencode({'next': next_url})}"


def safe_next(request: HttpRequest, given: str | None = None) -> str:
    """Return where to go on, if that is a page of ours; else the first one."""
    wanted = given if given is not None else request.POST.get("next", request.GET.get("next", ""))
    ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None, require_https=request.is_secure())
    return wanted if ours and wanted.startswith("/") else reverse("admin:index")

"""The two addresses of a sign-in through the OpenID Connect provider: where it begins, and where it comes back."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from access.actors import client_ip
from access.confirmation import safe_next
from access.models import Member
from access.oidc import SignInRefused, ask, claims_of, member_of
from access.pages import open_page
from access.sign_in_pages import confirmed
from access.sign_in_settings import Provider
from access.signing_in import complete, note_refused, proceed
from access.throttles import may_sign_in

# In a session: where to go on after the provider, and whether a member who is signed in only confirms.
_NEXT: Final = "oidc_next"
_CONFIRMS: Final = "oidc_confirms"


@open_page("login/oidc/", name="oidc")
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    """Lead to the provider."""
    provider = _provider()
    confirms = isinstance(request.user, Member)
    request.session[_NEXT], request.session[_CONFIRMS] = safe_next(request), confirms
    # Who only confirms must show again who they are, though the provider still knows them.
    more = {"prompt": "login", "max_age": "0"} if confirms else {}
    try:
        return ask(request, provider, _callback(request), **more)
    except SignInRefused as refused:
        return _refused(request, refused, 503)


@open_page("login/oidc/callback/", name="oidc_callback")
@require_GET
def come_back(request: HttpRequest) -> HttpResponse:
    """Sign in whom the provider has sent back."""
    provider = _provider()
    if not may_sign_in(request):
        return _refused(request, SignInRefused("too_many", "Too many attempts", "Wait a minute, then try again."), 429)
    next_url, confirms = request.session.pop(_NEXT, ""), request.session.pop(_CONFIRMS, False)
    try:
        member = member_of(claims_of(request, provider), provider, ip=client_ip(request))
    except SignInRefused as refused:
        note_refused(request, f"oidc:{provider.name}", refused.code)
        return _refused(request, refused, 403)
    next_url, method = safe_next(request, next_url), f"oidc:{provider.name}"
    if confirms and member == request.user:
        return confirmed(request, method, second_factor=provider.trusts_second_factor, next_url=next_url)
    if provider.trusts_second_factor:
        return complete(request, member, method=method, second_factor=True, next_url=next_url)
    return proceed(request, member, method=method, next_url=next_url)


def _provider() -> Provider:
    provider: Provider | None = settings.KEEPTRUSTS_OIDC
    if provider is None:
        raise Http404("no provider is set up")
    return provider


def _callback(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("admin:oidc_callback"))


def _refused(request: HttpRequest, refused: SignInRefused, status: int) -> HttpResponse:
    context: dict[str, Any] = {**admin.site.each_context(request), "title": refused.title, "words": refused.words}
    return TemplateResponse(request, "console/sign_in_refused.html", context, status=status)

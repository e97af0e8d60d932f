"""What members see and change of their own way in: password, second factors, recovery codes, sessions."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Final

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from unfold.widgets import UnfoldAdminTextInputWidget

from access.actors import caller, request_actor
from access.confirmation import require_confirmed
from access.console import add_errors
from access.factor_adapter import seal, unseal
from access.pages import console_page, page_context
from access.refusals import Conflict
from access.reveal import Secret, reveal_page
from access.second_factors import (
    add_passkey,
    add_totp,
    factors_of,
    make_recovery_codes,
    needs_second_factor,
    recovery_codes_left,
    remove_factor,
    totp_secret,
)
from access.sessions import SECOND_FACTOR, end_session, end_sessions, sessions_of

# For so long the secret on the page of a new authenticator app may be confirmed.
_SECRET_GOOD_FOR: Final = 15 * 60


class AuthenticatorForm(forms.Form):
    sealed = forms.CharField(max_length=500, widget=forms.HiddenInput)
    code = forms.CharField(
        label="Code that the app shows now",
        max_length=20,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
        ),
    )


class PasskeyForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=60,
        help_text="What you know it by: “laptop”, “blue security key”.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    answer = forms.CharField(max_length=20_000, widget=forms.HiddenInput)


@console_page("account/", name="account")
def account(request: HttpRequest) -> HttpResponse:
    """Show a member's ways in, and where they are signed in."""
    member = caller(request)
    factors = factors_of(member)
    context = {
        "factors": factors,
        "has_app": any(not factor.is_passkey for factor in factors),
        "codes_left": recovery_codes_left(member),
        "factor_needed": needs_second_factor(member),
        "sessions": sessions_of(member, current=request.session.session_key),
        "idle_minutes": int(settings.KEEPTRUSTS_SESSION_IDLE.total_seconds() // 60),
        "lifetime_hours": int(settings.KEEPTRUSTS_SESSION_LIFETIME.total_seconds() // 3600),
        "account_at_provider": [item.issuer for item in member.external_accounts.all()],
    }
    return TemplateResponse(request, "console/account.html", page_context(request, "Sign-in and sessions", **context))


@sensitive_post_parameters()
@console_page("account/authenticator/", name="add_authenticator")
@require_http_methods(["GET", "HEAD", "POST"])
def add_authenticator(request: HttpRequest) -> HttpResponse:
    """Show a new secret to put into an authenticator app, and take it on once the app shows the right code."""
    require_confirmed(request)
    member = caller(request)
    form = AuthenticatorForm(request.POST or None)
    secret = unseal(request.POST.get("sealed", ""), seconds=_SECRET_GOOD_FOR)
    if request.method == "POST" and secret is None:
        messages.warning(request, "That took too long. Here is a new secret.")
        return HttpResponseRedirect(request.path)
    if secret is not None and form.is_valid():
        try:
            add_totp(actor=request_actor(request), member_id=member.pk, secret=secret, code=form.cleaned_data["code"])
        except ValidationError as error:
            add_errors(form, error)
        except Conflict as conflict:
            return _back(request, conflict.detail)
        else:
            return _added(request, "The authenticator app is a second factor from now on.")
    secret = secret or totp_secret()
    adapter = get_adapter()
    context = {
        "form": form if form.is_bound else AuthenticatorForm(initial={"sealed": seal(secret)}),
        "secret": " ".join(secret[start : start + 4] for start in range(0, len(secret), 4)),
        "picture": adapter.build_totp_svg(adapter.build_totp_url(member, secret)),
    }
    page = page_context(request, "Add an authenticator app", **context)
    return _never_stored(TemplateResponse(request, "console/add_authenticator.html", page))


@console_page("account/passkeys/add/", name="add_passkey")
@require_http_methods(["GET", "HEAD", "POST"])
def new_passkey(request: HttpRequest) -> HttpResponse:
    """Let a member make a passkey, which signs them in by itself."""
    require_confirmed(request)
    form = PasskeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            add_passkey(
                actor=request_actor(request),
                member_id=caller(request).pk,
                name=form.cleaned_data["name"],
                answer=_parsed(form.cleaned_data["answer"]),
            )
        except ValidationError as error:
            add_errors(form, error)
        except Conflict as conflict:
            return _back(request, conflict.detail)
        else:
            return _added(request, "The passkey is added. You can sign in with it alone from now on.")
    context = {"form": form, "named_host": _is_named(request), "public_url": settings.PUBLIC_URL}
    return TemplateResponse(request, "console/add_passkey.html", page_context(request, "Add a passkey", **context))


@console_page("account/factors/<int:factor_id>/remove/", name="remove_factor")
@require_POST
def remove(request: HttpRequest, factor_id: int) -> HttpResponse:
    """Remove one of a member's own second factors."""
    if not Authenticator.objects.filter(pk=factor_id, user=caller(request)).exists():
        raise Http404("no such second factor")
    require_confirmed(request)
    try:
        name = remove_factor(actor=request_actor(request), member_id=caller(request).pk, factor_id=factor_id)
    except Conflict as conflict:
        return _back(request, conflict.detail)
    except Authenticator.DoesNotExist as error:
        raise Http404("no such second factor") from error
    messages.success(request, f"“{name}” is removed, and of no use any more.")
    return HttpResponseRedirect(reverse("admin:account"))


@console_page("account/recovery-codes/", name="recovery_codes")
@require_POST
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """Make new recovery codes and show them, this once."""
    require_confirmed(request)
    try:
        codes = make_recovery_codes(actor=request_actor(request), member_id=caller(request).pk)
    except Conflict as conflict:
        return _back(request, conflict.detail)
    secret = Secret(
        title="Your recovery codes",
        name="Recovery codes",
        value="\n".join(codes),
        usage="console/recovery_codes_usage.html",
        done_url=reverse("admin:account"),
        done_text="Done, I have stored them",
        variable="",
    )
    return reveal_page(request, admin.site, secret)


@console_page("account/sessions/<slug:handle>/end/", name="end_session")
@require_POST
def end_one(request: HttpRequest, handle: str) -> HttpResponse:
    """End one of a member's own sessions. Nobody is asked who they are first: it may be a thief's."""
    if not end_session(actor=request_actor(request), member_id=caller(request).pk, handle=handle):
        raise Http404("no such session")
    messages.success(request, "The session has ended.")
    return HttpResponseRedirect(reverse("admin:account"))


@console_page("account/sessions/end-others/", name="end_other_sessions")
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """End every session of a member but this one."""
    ended = end_sessions(actor=request_actor(request), member_id=caller(request).pk, keep=request.session.session_key)
    messages.success(request, f"{ended:,} other session{' has' if ended == 1 else 's have'} ended.")
    return HttpResponseRedirect(reverse("admin:account"))


def _added(request: HttpRequest, words: str) -> HttpResponse:
    """Go on after a factor was added; the session has shown one with that."""
    request.session[SECOND_FACTOR] = True
    messages.success(request, words)
    if recovery_codes_left(caller(request)) is None:
        messages.warning(request, "Make recovery codes now: without them a lost phone locks you out.")
    return HttpResponseRedirect(reverse("admin:account"))


def _back(request: HttpRequest, why_not: str) -> HttpResponse:
    messages.error(request, why_not)
    return HttpResponseRedirect(reverse("admin:account"))


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _is_named(request: HttpRequest) -> bool:
    """Say whether the console was opened by a name: an address is no relying party of WebAuthn."""
    host = request.get_host()
    try:
        ipaddress.ip_address(host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0])
    except ValueError:
        return True
    return False


def _never_stored(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    # As for every page with a secret (access/reveal.py).
    response["Content-Encoding"] = "identity"
    return response

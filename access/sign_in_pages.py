"""The pages of signing in: password, second factor, passkey; and the one that asks once more who one is."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import quote

from allauth.mfa.webauthn.internal import auth as webauthn
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from access.actors import caller, client_ip, member_actor, request_actor
from access.confirmation import require_confirmed, safe_next
from access.models import Member
from access.pages import console_page, open_page, page_context
from access.second_factors import factors_of, has_second_factor, needs_second_factor, owner_of, use_code, use_passkey
from access.sessions import confirm as note_confirmed
from access.signing_in import Pending, complete, find_pending, forget_pending, note_failure, proceed, refuse_locked
from access.throttles import may_try_code, may_try_name, may_try_passkey
from audit.actions import AuditAction
from audit.recording import Subject, record

WRONG_CODE = "This code is wrong, or was used before. Wait for the next one, or use a recovery code."
WRONG_PASSKEY = "The passkey was not accepted. Try again, or sign in with your password."
NOT_YOURS = "This is not your password."
TOO_LATE = "That took too long, or was finished elsewhere. Sign in again."


class SignInForm(AuthenticationForm):
    """Signs a member in, and says no in the same words whatever was wrong."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "No active member has this username and password. Both tell capitals apart.",
    }


class SignInView(LoginView):
    """The first page: a password, or what stands in for it."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        locked = refuse_locked(request, request.POST.get("username", ""), may_try=may_try_name)
        return locked if locked is not None else super().post(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        return proceed(self.request, form.get_user(), method="password", next_url=self.get_success_url())


def sign_in(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show the first page, or take what was typed there. context: of the site."""
    context = {
        **context,
        "title": "Sign in",
        "app_path": request.get_full_path(),
        "next": safe_next(request),
        "next_quoted": quote(safe_next(request)),
        "provider": settings.KEEPTRUSTS_OIDC,
    }
    view = SignInView.as_view(extra_context=context, authentication_form=SignInForm, template_name="admin/login.html")
    return cast(HttpResponse, view(request))


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=100,
        required=False,
        help_text="Of your authenticator app, or one of your recovery codes.",
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "spellcheck": "false", "autocapitalize": "none"}
        ),
    )


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Password",
        strip=False,
        max_length=1_000,
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )


@sensitive_post_parameters()
@open_page("login/second-factor/", name="second_factor")
def second_factor(request: HttpRequest) -> HttpResponse:
    """Ask who has shown a right password for the second factor, and sign them in with it."""
    pending = find_pending(request)
    if pending is None:
        forget_pending(request)
        messages.warning(request, TOO_LATE)
        return HttpResponseRedirect(reverse("admin:login"))
    member, form = pending.member, CodeForm(request.POST or None)
    if request.method == "POST":
        if (locked := refuse_locked(request, member.username, may_try=may_try_code)) is not None:
            return locked
        if used := _used_factor(request, member, form):
            method = f"{pending.method} + {used}"
            return complete(request, member, method=method, second_factor=True, next_url=pending.next_url)
        note_failure(request, member.username, method="second factor")
    return _second_factor_page(request, pending, form)


@open_page("login/passkey/", name="passkey_sign_in")
@require_POST
def passkey_sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in whose passkey has signed our challenge: it is both factors in one."""
    answer = _answer_of(request)
    claimed = owner_of(answer)
    name = claimed.username if claimed is not None else ""
    if (locked := refuse_locked(request, name, may_try=may_try_passkey)) is not None:
        return locked
    if claimed is not None and claimed.is_active and use_passkey(member=claimed, answer=answer):
        return complete(request, claimed, method="passkey", second_factor=True, next_url=safe_next(request))
    note_failure(request, name, method="passkey")
    messages.error(request, WRONG_PASSKEY)
    return HttpResponseRedirect(reverse("admin:login"))


@open_page("passkey-options/", name="passkey_options")
@require_GET
def passkey_options(request: HttpRequest) -> JsonResponse:
    """Return what a browser needs to make or use a passkey here; the challenge is kept in the session."""
    member = request.user if isinstance(request.user, Member) else None
    if request.GET.get("for") == "add":
        if member is None:
            raise Http404
        require_confirmed(request)
        return JsonResponse(webauthn.begin_registration(member, passwordless=True))
    if member is None and request.GET.get("for") == "second-factor" and (pending := find_pending(request)):
        member = pending.member
    return JsonResponse(webauthn.begin_authentication(member))


@sensitive_post_parameters()
@console_page("confirm/", name="confirm")
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """Let a member prove once more who they are: by their password, or by a second factor."""
    member = caller(request)
    # Where a second factor is owed, a password was shown already.
    owed = needs_second_factor(member) and has_second_factor(member) and not request.session.get("second_factor")
    password, code = PasswordForm(request.POST or None), CodeForm(request.POST or None)
    if request.method == "POST":
        if (locked := refuse_locked(request, member.username, may_try=may_try_code)) is not None:
            return locked
        if method := _proof(request, member, password, code, owed=owed):
            return confirmed(request, method, second_factor=method != "password", next_url=safe_next(request))
    context = {
        "password_form": password if member.has_usable_password() and not owed else None,
        "code_form": code if has_second_factor(member) else None,
        "has_passkey": any(factor.is_passkey for factor in factors_of(member)),
        "next": safe_next(request),
        "next_quoted": quote(safe_next(request)),
        "provider": settings.KEEPTRUSTS_OIDC if member.external_accounts.exists() else None,
    }
    return TemplateResponse(request, "console/confirm.html", page_context(request, "Confirm that it is you", **context))


def _proof(request: HttpRequest, member: Member, password: PasswordForm, code: CodeForm, *, owed: bool) -> str | None:
    """Return by what the member has proven who they are; None, with the error at its field, where they have not."""
    typed = request.POST.get("password", "")
    if typed and not owed:
        if authenticate(request, username=member.username, password=typed) == member:
            return "password"
        password.add_error("password", NOT_YOURS)
        return None
    used = _used_factor(request, member, code)
    if used is None:
        note_failure(request, member.username, method="second factor")
    return used


def confirmed(request: HttpRequest, method: str, *, second_factor: bool, next_url: str) -> HttpResponse:
    """Note and record that the signed-in member has proven who they are, and go on."""
    # A new key first: whoever knew the old one has not proven anything.
    request.session.cycle_key()
    note_confirmed(request.session, second_factor=second_factor)
    member = caller(request)
    with transaction.atomic():
        about = Subject("session", member.pk, member.username)
        record(AuditAction.SESSION_CONFIRMED, request_actor(request), about, detail={"method": method})
    return HttpResponseRedirect(next_url)


def _used_factor(request: HttpRequest, member: Member, form: CodeForm) -> str | None:
    """Return which second factor of the member this request has shown; None, with the error in `form`, for none."""
    if not form.is_valid():
        return None
    if "answer" in request.POST:
        used = use_passkey(member=member, answer=_answer_of(request))
        if used is None:
            form.add_error(None, WRONG_PASSKEY)
        return used
    actor = member_actor(member, credential="second factor", ip=client_ip(request))
    used = use_code(actor=actor, member=member, code=form.cleaned_data["code"])
    if used is None:
        form.add_error("code", WRONG_CODE)
    return used


def _answer_of(request: HttpRequest) -> Any:
    """Return what the browser's authenticator has said, or what somebody has put in its place."""
    try:
        return json.loads(request.POST.get("answer", ""))
    except (ValueError, RecursionError):
        return None


def _second_factor_page(request: HttpRequest, pending: Pending, form: CodeForm) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": "Second factor",
        "form": form,
        "member": pending.member,
        "has_passkey": any(factor.is_passkey for factor in factors_of(pending.member)),
    }
    return TemplateResponse(request, "console/second_factor.html", context)

"""The page on which somebody who was invited chooses their password. It stands outside the sign-in.

The secret of the link is in the address after "#", which no browser sends: a script puts it into the form (without
one, it is pasted), and from there it travels in the body of POSTs alone.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminTextInputWidget

from access.actors import client_ip
from access.invitations import LinkRefused, LinkTrouble, accept_invitation, find_invitation
from access.member_forms import add_password_errors, new_password, same_password
from access.models import Member
from access.throttles import may_guess

TROUBLES: Final = {
    LinkTrouble.UNKNOWN: (
        "This link is not known",
        "A part of it may be missing: open it exactly as it was given to you. If that does not help, ask an Admin for "
        "a new invitation link.",
    ),
    LinkTrouble.USED: (
        "This link was used",
        "It works once. If it was you, sign in with the password that you chose then; if it was not, tell an Admin at "
        "once.",
    ),
    LinkTrouble.WITHDRAWN: (
        "This link is no longer valid",
        "An Admin has withdrawn it, or replaced it by another one. Use the newest link, or ask an Admin for one.",
    ),
    LinkTrouble.EXPIRED: (
        "This link has expired",
        "An invitation link is valid for 7 days. Ask an Admin for a new one.",
    ),
}
TOO_OFTEN: Final = ("Too many attempts", "Wait a minute, then open your link again.")


class LinkForm(forms.Form):
    secret = forms.CharField(
        label="Invitation code",
        max_length=200,
        help_text="The part of your invitation link after “#”.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class JoinForm(forms.Form):
    new_password = new_password("Password")
    same_password = same_password("Password, again")

    def __init__(self, member: Member, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.member = member

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        add_password_errors(self, self.member)
        return cleaned


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """Ask for the link's secret, then for a password; then the member is signed in."""
    if request.method != "POST":
        return _page(request, "Join Keeptrusts", form=LinkForm())
    link = LinkForm(request.POST)
    if not link.is_valid():
        return _page(request, "Join Keeptrusts", form=link)
    if not may_guess(request):
        return _page(request, TOO_OFTEN[0], trouble=TOO_OFTEN[1], status=429)
    try:
        return _choose(request, link.cleaned_data["secret"])
    except LinkRefused as refused:
        title, words = TROUBLES[refused.trouble]
        return _page(request, title, trouble=words, used=refused.trouble is LinkTrouble.USED, status=410)


def _choose(request: HttpRequest, secret: str) -> HttpResponse:
    invitation = find_invitation(secret)
    member = invitation.member
    form = JoinForm(member, request.POST if "new_password" in request.POST else None)
    if form.is_valid():
        try:
            password = form.cleaned_data["new_password"]
            member = accept_invitation(secret=secret, password=password, ip=client_ip(request))
        except ValidationError as error:
            form.add_error("new_password", error)
        else:
            login(request, member, backend="django.contrib.auth.backends.ModelBackend")
            messages.success(request, f"Welcome, {member.get_full_name()}. You are signed in as {member}.")
            return HttpResponseRedirect(reverse("admin:index"))
    context: dict[str, Any] = {"form": form, "secret": secret, "member": member, "expires_at": invitation.expires_at}
    return _page(request, f"Welcome, {member.get_full_name()}", **context)


def _page(request: HttpRequest, title: str, *, status: int = 200, **context: Any) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title, **context}
    response = TemplateResponse(request, "console/join.html", context, status=status)
    response["Cache-Control"] = "no-store"
    # As for every page with a secret (access/reveal.py): not squeezed next to what a caller chose.
    response["Content-Encoding"] = "identity"
    return response

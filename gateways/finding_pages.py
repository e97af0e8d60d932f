"""The pages for a key that leaked: find it by its value, revoke it on the spot, and see what follows."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from access.actors import caller, request_actor
from access.console import add_errors
from access.dialogs import find_visible
from access.models import Member
from access.pages import console_page, page_context
from access.refusals import Forbidden
from audit import clock
from gateways.aftermath import aftermath
from gateways.finding import Finding, find
from keys import lifecycle
from keys.models import GatewayKey
from keys.offers import why_not
from keys.status import KeyStatus, VersionState

STATUS_LABELS = {
    KeyStatus.ACTIVE: "success",
    KeyStatus.ROTATING: "info",
    KeyStatus.DISABLED: "warning",
    KeyStatus.EXPIRED: "default",
    KeyStatus.REVOKED: "danger",
}
REVOKE = "keys.revoke_gatewaykey"


class FindForm(forms.Form):
    """Never shown again with what was sent: a value goes one way only."""

    value = forms.CharField(
        label="Suspected value, or its hint",
        widget=UnfoldAdminTextInputWidget(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "off",
                "spellcheck": "false",
                "autofocus": True,
                "placeholder": "kt_gk_…",
            }
        ),
        help_text="A whole line that contains it will do. It is looked up in memory by its digest: never stored, "
        "logged or shown again.",
    )


class RevokeFoundForm(forms.Form):
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 2, "placeholder": "Where it was found: kept with the key and in the audit log"}
        ),
    )
    confirmed = forms.BooleanField(
        widget=UnfoldBooleanWidget,
        error_messages={"required": "Tick this to say that you mean this key."},
    )

    def __init__(self, key: GatewayKey, data: Any = None) -> None:
        super().__init__(data, auto_id=f"id_{key.pk}_%s")
        whose = f"of {key.consumer_group}" if key.consumer_group else "of all groups"
        self.fields["confirmed"].label = f"Revoke {key.name} ({key.hint}, {whose}) for good: every value of it"


@console_page("find-a-key/", name="find_a_key", permission="keys.view_gatewaykey")
@sensitive_post_parameters("value")
@sensitive_variables("text")
def find_a_key(request: HttpRequest) -> HttpResponse:
    """Ask for a value, or say whose the one is that was sent."""
    found: Finding | None = None
    is_empty = False
    if request.method == "POST":
        text = request.POST.get("value", "")
        is_empty = not text.strip()
        found = None if is_empty else find(text, caller(request))
    context = {
        "form": FindForm(),
        "is_empty": is_empty,
        "found": found,
        "keys": [_told(request, version) for version in found.versions] if found else [],
        "access_keys": [(key, key.status()) for key in found.access_keys] if found else [],
    }
    return _unstored(request, "gateways/find_a_key.html", "Find a key", **context)


@console_page("find-a-key/<path:key_id>/revoke/", name="revoke_found_key")
def revoke_found_key(request: HttpRequest, key_id: str) -> HttpResponse:
    """Ask whether this key is meant, or revoke it and lead to what follows."""
    key = find_visible(request, GatewayKey, key_id)
    if not caller(request).may(REVOKE, key):
        raise Forbidden(REVOKE, key)
    if key.revoked_at is not None:
        return HttpResponseRedirect(reverse("admin:after_revocation", args=[key.pk]))
    form = RevokeFoundForm(key, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            revoked = lifecycle.revoke(actor=request_actor(request), key_id=key.pk, reason=form.cleaned_data["reason"])
        except ValidationError as error:
            add_errors(form, error)
        else:
            where = revoked.narrowing.told(", and refused") if revoked.narrowing is not None else ""
            messages.success(request, f"{revoked} is revoked{where}.")
            return HttpResponseRedirect(reverse("admin:after_revocation", args=[key.pk]))
    context = {"key": key, "form": form, "status": _status(key)}
    return _unstored(request, "gateways/revoke_found_key.html", f"Revoke {key}", **context)


@console_page("find-a-key/<path:key_id>/after/", name="after_revocation", permission="keys.view_gatewaykey")
def after_revocation(request: HttpRequest, key_id: str) -> HttpResponse:
    """Show who refuses a revoked key, and who still sends it; the page asks for itself again every few seconds."""
    key = find_visible(request, GatewayKey, key_id)
    if key.revoked_at is None:
        context: dict[str, Any] = {"key": key, "may_revoke": caller(request).may(REVOKE, key)}
    else:
        context = {"key": key, "after": aftermath(key, key.revoked_at)}
    return _unstored(request, "gateways/after_revocation.html", f"After the revocation of {key}", **context)


def _told(request: HttpRequest, version: Any) -> dict[str, Any]:
    """Return what the page says of one version of a key, with the form that revokes it for who may."""
    key: GatewayKey = version.key
    member: Member = caller(request)
    now = clock.now()
    may_revoke = member.may(REVOKE, key) and not why_not("revoke", key, now)
    state = version.state_at(now)
    return {
        "key": key,
        "version": version,
        "state": state,
        "is_accepted": state is not VersionState.CLOSED
        and key.status_at(now) in {KeyStatus.ACTIVE, KeyStatus.ROTATING},
        "status": _status(key),
        "used_at": getattr(getattr(version, "metrics", None), "last_used_at", None),
        "key_used_at": getattr(getattr(key, "metrics", None), "last_used_at", None),
        "form": RevokeFoundForm(key) if may_revoke else None,
    }


def _status(key: GatewayKey) -> tuple[str, str]:
    """Return how the status of a key is called and coloured."""
    status = key.status_at(clock.now())
    return str(status.label), STATUS_LABELS[status]


def _unstored(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    response = TemplateResponse(request, template, page_context(request, title, **context))
    response["Cache-Control"] = "no-store"
    return response

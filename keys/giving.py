"""What the console shows of a value just made, and how one is replaced that was shown and not stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse

from access.actors import caller, request_actor
from access.dialogs import find_visible
from access.once import AlreadyDone, TokenField, once
from access.pages import console_page
from access.refusals import Conflict, record_refusal
from access.reveal import Secret, reveal_page
from audit import clock
from keys import lifecycle
from keys.issuing import IssuedKey
from keys.models import GatewayKey
from keys.networks import accepted_address
from keys.policy import rules_of

REPLACE: Final = "keys/gatewaykey/<uuid:key_id>/replace/"


def page_of(key_id: object) -> str:
    """Return the address of a key's page."""
    return reverse("admin:keys_gatewaykey_change", args=[quote(str(key_id))])


def secret_of(request: HttpRequest, issued: IssuedKey, title: str) -> Secret:
    """Return the value just made as what the console shows once."""
    key, version = issued.key, issued.version
    old = key.versions.filter(number=version.number - 1).first()
    fences = rules_of(key.consumer_group).fences
    accepted = old is not None and old.valid_until is not None and old.valid_until > clock.now()
    return Secret(
        title=title,
        name=f"The value of {key}, version {version.number}",
        value=issued.value,
        usage="keys/secret_usage.html",
        done_url=page_of(key.pk),
        context={
            "key": key,
            "old": old,
            "old_is_accepted": accepted,
            "where": key.narrowing.told(",") if key.narrowing is not None else "",
            "authorize": request.build_absolute_uri("/gateway/v1/authorize"),
            "fences": fences,
            "address": accepted_address(key.allowed_networks, *(fence.networks for fence in fences)),
        },
    )


class ReplaceForm(forms.Form):
    form_token = TokenField()


@console_page(
    "keys/gatewaykey/<uuid:key_id>/replace/", name="keys_gatewaykey_replace", permission="keys.rotate_gatewaykey"
)
def replace(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Rotate the key without grace and show its new value, once for every form, however often that is sent."""
    key = find_visible(request, GatewayKey, key_id)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    page = HttpResponseRedirect(page_of(key.pk))
    form = ReplaceForm(request.POST)
    if not form.is_valid():
        messages.error(request, "The form was incomplete, and nothing was done. Rotate the key instead.")
        return page
    actor = request_actor(request)
    try:
        with once(member=caller(request), path=request.path, token=form.cleaned_data["form_token"]):
            issued = lifecycle.rotate(actor=actor, key_id=key.pk, grace=timedelta(0), renew_expiry=False)
    except AlreadyDone:
        messages.warning(request, "The value was replaced already, and is not shown twice. Rotate to make a new one.")
        return page
    except Conflict as conflict:
        record_refusal(actor, conflict)
        messages.error(request, conflict.detail)
        return page
    secret = secret_of(request, issued, f"The value of {issued.key} was replaced")
    return reveal_page(request, admin.site, secret, opts=GatewayKey._meta)

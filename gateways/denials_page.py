"""Why a key was refused of late: a part of the key's page, which asks for it when it is shown."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from access.dialogs import find_visible
from access.pages import console_page
from gateways.denials import by_reason
from keys.models import GatewayKey
from usage.figures import figures, of_key
from usage.reasons import REASONS


@console_page(
    "keys/gatewaykey/<uuid:key_id>/denials/", name="keys_gatewaykey_denials", permission="keys.view_gatewaykey"
)
def denials_page(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Answer with the reasons of 24 hours and 7 days, each count leading to the requests."""
    key = find_visible(request, GatewayKey, key_id)
    rows = by_reason(key.pk)
    exact = figures(of_key(key.pk), window=timedelta(days=7)).denials
    kept = sum(row["week"] for row in rows)
    context = {
        "key": key,
        "rows": [{**row, "words": REASONS.get(row["reason"], row["reason"])} for row in rows],
        "exact": exact,
        "kept": kept,
        "is_sample": kept < exact,
    }
    response = render(request, "gateways/key_denials.html", context)
    response["Cache-Control"] = "no-store"
    return response

"""The keys that need attention, as the dashboard names them: a part of it that is asked for when it is shown.

To look through all keys takes longer than everything else on the dashboard together.
"""

from __future__ import annotations

from typing import Final, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from access.actors import caller
from access.pages import console_page
from audit import clock
from keys import hygiene
from keys.models import GatewayKey, GatewayKeyQuerySet

# What the hygiene page shows too, the most pressing first.
CONCERNS: Final = [hygiene.CONCERNS[slug] for slug in ("expiring_7", "long_grace", "unused", "never_used", "no_expiry")]


@console_page("attention/", name="attention", permission="keys.view_gatewaykey")
def attention(request: HttpRequest) -> HttpResponse:
    """Answer with the concerns that there are any keys of, each with the first of them."""
    keys = cast("GatewayKeyQuerySet", caller(request).visible(GatewayKey.objects.all()))
    found = hygiene.survey(keys, clock.now(), CONCERNS)
    context = {"concerns": [concern for concern in found if concern.count]}
    response = render(request, "keys/attention.html", context)
    response["Cache-Control"] = "no-store"
    return response

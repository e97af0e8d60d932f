"""The pages that answer "Why was I refused?": a search of denials, and the explanation of one."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from access.actors import caller
from access.dialogs import find_visible
from access.pages import console_page, page_context
from gateways.denials import WINDOWS, denials, without_values
from gateways.explaining import RELATED, explain
from usage.models import Outcome, UsageEvent
from usage.reasons import REASONS

ROWS_SHOWN: Final = 50


class SearchForm(forms.Form):
    q = forms.CharField(
        label="Decision id, key, hint, group or address",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    window = forms.ChoiceField(
        label="When",
        required=False,
        choices=[(name, words) for name, (words, _) in WINDOWS.items()],
        initial="24h",
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.ChoiceField(
        label="Reason",
        required=False,
        choices=[("", "Any reason"), *REASONS.items()],
        widget=UnfoldAdminSelectWidget,
    )


@console_page("why-refused/", name="why_refused", permission="usage.view_usageevent")
def why_refused(request: HttpRequest) -> HttpResponse:
    """List the denials that fit. A search comes by POST and is sent on without what may be a secret in it."""
    asked = request.POST if request.method == "POST" else request.GET
    term = without_values(asked.get("q", ""))
    window = asked.get("window", "") if asked.get("window") in WINDOWS else "24h"
    reason = asked.get("reason", "") if asked.get("reason") in REASONS else ""
    given = {"q": term, "window": window, "reason": reason}
    if request.method == "POST":
        return HttpResponseRedirect(f"{reverse('admin:why_refused')}?{urlencode(given)}")
    found = denials(caller(request), term=term, window=window, reason=reason, count=ROWS_SHOWN + 1)
    events = list(found.select_related(*RELATED)[: ROWS_SHOWN + 1])
    context = {
        "form": SearchForm(initial=given),
        "events": [(event, REASONS.get(event.reason, event.reason)) for event in events[:ROWS_SHOWN]],
        "has_more": len(events) > ROWS_SHOWN,
        "term": term,
        "narrowed": bool(term or reason),
        "window_words": WINDOWS[window][0].lower(),
        "rows_shown": ROWS_SHOWN,
    }
    page = page_context(request, "Why was I refused?", **context)
    return TemplateResponse(request, "gateways/why_refused.html", page)


@console_page("why-refused/<path:event_id>/", name="why_refused_event", permission="usage.view_usageevent")
def why_refused_event(request: HttpRequest, event_id: str) -> HttpResponse:
    """Explain one denial. Errors: Http404 where the member sees none of this id."""
    event = find_visible(request, UsageEvent, event_id)
    if event.outcome != Outcome.DENIED:
        raise Http404("that request was not refused")
    member = caller(request)
    context = {"event": event, "reason": REASONS.get(event.reason, event.reason), "why": explain(event, member)}
    page = page_context(request, "Why this request was refused", **context)
    return TemplateResponse(request, "gateways/why_refused_event.html", page)

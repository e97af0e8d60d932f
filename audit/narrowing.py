"""How the console's lists and the API's exports of the same rows are narrowed alike."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.dateparse import parse_date

from audit.actions import AuditAction
from audit.models import AuditEntry


def search_entries(entries: QuerySet[AuditEntry], text: str) -> QuerySet[AuditEntry]:
    """Return the entries in which every word of `text` occurs; the id of an object only whole.

    Each alternative has an index of its own on PostgreSQL: one without would make it go through the whole log.
    """
    for word in text.split():
        found = Q(object_id__in={word, word.lower()})
        found |= Q(action__in=[action for action in AuditAction.values if word.lower() in action])
        for field in ("object_label", "actor_label", "credential"):
            found |= Q(**{f"{field}__icontains": word})
        entries = entries.filter(found)
    return entries


def carried(given: QueryDict, names: Mapping[str, str]) -> dict[str, str]:
    """Return what a list was narrowed by, under the names that the API has for it; `names`: {list's: API's}."""
    texts = {ours: str(given.get(theirs, "")).strip() for theirs, ours in names.items()}
    return {ours: text for ours, text in texts.items() if text}


def days(given: QueryDict, theirs: str, ours: str) -> dict[str, str]:
    """Return a list's days, in the zone of the member, as the API's instants: from the first one to after the last."""
    query = {}
    for end, name, plus in (("from", "after", timedelta(0)), ("to", "before", timedelta(days=1))):
        try:
            day = parse_date(given.get(f"{theirs}_{end}", ""))
            if day:
                query[f"{ours}_{name}"] = timezone.make_aware(datetime.combine(day, time.min) + plus).isoformat()
        except (ValueError, OverflowError):
            continue  # The list does not narrow by it either.
    return query


def with_filters(response: HttpResponse, request: HttpRequest) -> HttpResponse:
    """Let the export of a list be given the list's filters, and say so where there are some."""
    context: Any = response.context_data if isinstance(response, TemplateResponse) else None
    given = {key: value for key, value in request.GET.items() if value and key not in {"p", "o", "all", "e"}}
    if context and given:
        for action in context.get("actions_list", ()):
            if action.get("path", "").endswith("/export/"):
                action["path"] += f"?{urlencode(given)}"
                action["title"] = "Export these (CSV)"
    return response

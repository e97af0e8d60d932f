"""How lists of the audit log are searched, and how an export of the console takes what its list shows."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

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


def with_filters(response: HttpResponse, request: HttpRequest) -> HttpResponse:
    """Let the export of a list be given the list's filters, and say so where there are some."""
    context: Any = response.context_data if isinstance(response, TemplateResponse) else None
    given = {
        key: some
        for key, said in request.GET.lists()
        if key not in {"p", "all", "e"} and (some := [*filter(None, said)])
    }
    for action in context.get("actions_list", ()) if context and given else ():
        if action.get("path", "").endswith(("/export/", "/export-days/")):
            action["path"] += f"?{urlencode(given, doseq=True)}"
            # An order narrows nothing, and the file has it, too.
            if given.keys() != {"o"}:
                action["title"] = str(action["title"]).replace("Export all", "Export these")
    return response

"""The export of what a list of the console shows: its own rows, by its own filters, search and order."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from audit.actor import Actor
from audit.export_slots import TooManyExports
from audit.exports import Export, export, filters_of


def export_list(screen: ModelAdmin[Any], request: HttpRequest, what: Export, *, actor: Actor) -> HttpResponseBase:
    """Return the file of all that the list with this address's query shows, on all its pages.

    What cannot be narrowed by, and an export too many, lead back to the list, which says so.
    """
    try:
        return export(request, what, listed(screen, request), actor=actor, filters=filters_of(request.GET))
    except IncorrectLookupParameters:
        return to_list(screen, request)
    except TooManyExports as busy:
        messages.error(request, str(busy.detail))
        return to_list(screen, request)
    except (ValidationError, OverflowError, DataError) as error:
        raise BadRequest("not a value that a row can have") from error


def listed(screen: ModelAdmin[Any], request: HttpRequest) -> QuerySet[Any]:
    """Return the rows that the list shows. Errors: IncorrectLookupParameters."""
    rows: QuerySet[Any] = screen.get_changelist_instance(request).queryset
    return rows


def to_list(screen: ModelAdmin[Any], request: HttpRequest) -> HttpResponseRedirect:
    """Lead back to the list, narrowed as it was."""
    place = reverse(f"{screen.admin_site.name}:{screen.opts.app_label}_{screen.opts.model_name}_changelist")
    return HttpResponseRedirect(f"{place}?{request.GET.urlencode()}" if request.GET else place)

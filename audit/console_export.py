"""The export of what a list of the console shows: its own rows, by its own filters, search and order."""

from __future__ import annotations

from collections.abc import Callable
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

type Narrow = Callable[[QuerySet[Any]], QuerySet[Any]]


def _as_it_is(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows


def export_list(
    screen: ModelAdmin[Any], request: HttpRequest, what: Export, *, actor: Actor, narrow: Narrow = _as_it_is
) -> HttpResponseBase:
    """Return the file of all that the list with this address's query shows, on all its pages. narrow: further, by us.

    What cannot be narrowed by, and an export too many, lead back to the list, which says so.
    """
    try:
        rows = narrow(screen.get_changelist_instance(request).queryset)
        return export(request, what, rows, actor=actor, filters=filters_of(request.GET))
    except IncorrectLookupParameters:
        return to_list(screen, request)
    except TooManyExports as busy:
        messages.error(request, str(busy.detail))
        return to_list(screen, request)
    except (ValidationError, OverflowError, DataError) as error:
        raise BadRequest("not a value that a row can have") from error


def to_list(screen: ModelAdmin[Any], request: HttpRequest) -> HttpResponseRedirect:
    """Lead back to the list, narrowed as it was."""
    place = reverse(f"{screen.admin_site.name}:{screen.opts.app_label}_{screen.opts.model_name}_changelist")
    return HttpResponseRedirect(f"{place}?{request.GET.urlencode()}" if request.GET else place)

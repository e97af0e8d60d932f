"""Filters that lists of the console share and that know who looks."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.db import models
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from access.models import Member


class VisibleDropdownFilter(DropdownFilter):
    """Narrows a list to rows of one related object, offered among those that the member sees.

    related: the model. A subclass also names `title` and `parameter_name`, which is the field to filter by.
    """

    related: ClassVar[type[models.Model]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        objects = cast("Member", request.user).visible(self.related._default_manager.all())
        return [(str(obj.pk), str(obj)) for obj in objects]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        # Held against what is offered: a database asked for an id that is none would fail.
        offered = any(value == choice for choice, _ in self.lookup_choices)
        return queryset.filter(**{f"{self.parameter_name}": value}) if offered else queryset.none()

"""The filters of the list of gateway keys."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import CheckboxFilter, DropdownFilter, TextFilter
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from access.list_filters import VisibleDropdownFilter
from access.models import Member
from audit import clock
from keys.hygiene import CONCERNS, concerned
from keys.models import MOST_DAYS, ConsumerGroup, GatewayKeyQuerySet
from keys.status import KeyStatus


class StatusFilter(CheckboxFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, status.label) for status in reversed(KeyStatus)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = [KeyStatus(value) for value in self.value() or [] if value in KeyStatus.values]
        return cast("GatewayKeyQuerySet", queryset).in_status(*chosen) if chosen else queryset


class GroupFilter(VisibleDropdownFilter):
    title = "consumer group"
    parameter_name = "consumer_group"
    related = ConsumerGroup


class OwnerFilter(DropdownFilter):
    """Narrows to keys that one member answers for, or nobody."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        members = Member.objects.values_list("pk", "username", "is_active").order_by("-is_active", "username")
        named = [(str(pk), name if active else f"{name} (has left)") for pk, name, active in members]
        return [("nobody", "Nobody"), *named]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        # Held against what is offered: a database asked for an id that is none would fail.
        if all(value != choice for choice, _ in self.lookup_choices):
            return queryset.none()
        return queryset.filter(owner__isnull=True) if value == "nobody" else queryset.filter(owner=value)


class AttentionFilter(CheckboxFilter):
    """What somebody who tidies up looks for (keys/hygiene.py). Several at once narrow further."""

    title = "what needs attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(concern.slug, concern.label or concern.title) for concern in CONCERNS.values()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        keys, now = cast("GatewayKeyQuerySet", queryset), clock.now()
        for value in self.value() or []:
            if value in CONCERNS:
                keys = concerned(keys, value, now)
        return keys


class DaysForm(forms.Form):
    def __init__(self, name: str, label: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[name] = forms.IntegerField(
            label=label,
            required=False,
            min_value=1,
            max_value=MOST_DAYS,
            widget=UnfoldAdminIntegerFieldWidget(attrs={"placeholder": "Within days, for example 14"}),
        )


class ExpiringFilter(TextFilter):
    title = "days until expiry"
    parameter_name = "expiring_within"
    form_class: Any = DaysForm

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        if not value.isdecimal() or len(value) > 9 or not 1 <= int(value) <= MOST_DAYS:
            messages.error(request, f"“Expiring within” takes a whole number of days, 1 to {MOST_DAYS:,}.")
            return queryset.none()
        return cast("GatewayKeyQuerySet", queryset).expiring_within(int(value))

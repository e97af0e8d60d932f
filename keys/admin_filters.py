"""The filters of the list of gateway keys."""

from __future__ import annotations

from typing import Any, Final, cast

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import CheckboxFilter, TextFilter
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from access.list_filters import VisibleDropdownFilter
from keys.models import MOST_DAYS, ConsumerGroup, GatewayKeyQuerySet
from keys.status import KeyStatus

UNUSED_DAYS: Final = 30


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


class AttentionFilter(CheckboxFilter):
    """What somebody who tidies up looks for. Several at once narrow further."""

    title = "what needs attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("unused", f"Unused for {UNUSED_DAYS} days"),
            ("never_used", "Never used"),
            ("no_expiry", "No expiry"),
            ("unscoped", "Unscoped (all groups)"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        keys = cast("GatewayKeyQuerySet", queryset)
        for value in self.value() or []:
            match value:
                case "unused":
                    keys = keys.unused_for(UNUSED_DAYS)
                case "never_used":
                    keys = keys.never_used()
                case "no_expiry":
                    keys = keys.without_expiry()
                case "unscoped":
                    keys = keys.unscoped()
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

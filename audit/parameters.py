"""The kinds of parameters that narrow a list: instants, texts, days, flags. What does not fit one is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import django_filters
from django import forms
from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from audit.instants import parse_instant

LONGEST_TEXT: Final = 200
MOST_WORDS: Final = 10
MOST_DAYS: Final = 36_500
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class _InstantFormField(forms.CharField):
    def clean(self, value: Any) -> datetime | None:
        return None if value is None else parse_instant(super().clean(value))


@extend_schema_field(OpenApiTypes.DATETIME)
class InstantFilter(django_filters.Filter):
    """A time in RFC 3339, with its offset."""

    field_class = _InstantFormField


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT})
class TextFilter(django_filters.CharFilter):
    """A text of at most 200 characters, taken as it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_length": LONGEST_TEXT, "strip": False, **kwargs})


class _DayFormField(forms.CharField):
    def __init__(self, *, after: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.after = after

    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            day = parse_date(text)
            if day is None:
                raise ValueError
            return datetime.combine(day + timedelta(days=self.after), time.min, UTC)
        except (ValueError, OverflowError):
            raise forms.ValidationError("This is no day such as 2030-01-31.", code="invalid") from None


@extend_schema_field(OpenApiTypes.DATE)
class DayFilter(django_filters.Filter):
    """A day in UTC: its first instant; after: that of the day after it."""

    field_class = _DayFormField


class _DaysFormField(forms.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"min_value": 1, "max_value": MOST_DAYS, **kwargs})

    def clean(self, value: Any) -> int | None:
        if value == "":
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        days: int | None = super().clean(value)
        return days


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": MOST_DAYS})
class DaysFilter(django_filters.Filter):
    """A number of whole days."""

    field_class = _DaysFormField


class _IdFormField(forms.CharField):
    def clean(self, value: Any) -> UUID | None:
        if value is None:
            return None
        text = super().clean(value)
        if _UUID.fullmatch(text) is None:
            raise forms.ValidationError("This is no UUID.", code="invalid")
        return UUID(text)


@extend_schema_field(OpenApiTypes.UUID)
class IdFilter(django_filters.Filter):
    """The id of an object, as the API writes it."""

    field_class = _IdFormField


class _FlagFormField(forms.Field):
    def clean(self, value: Any) -> bool | None:
        if value is None:
            return None
        if value not in ("true", "false"):
            raise forms.ValidationError("Say true or false.", code="invalid")
        return bool(value == "true")


@extend_schema_field(OpenApiTypes.BOOL)
class FlagFilter(django_filters.Filter):
    """true or false."""

    field_class = _FlagFormField

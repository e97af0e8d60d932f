"""Filters that lists of the console share."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from unfold.contrib.filters.admin import RangeDateFilter

from audit.moments import zone


class DayRangeFilter(RangeDateFilter):
    """Narrows a time to whole days in the member's zone, the last one included: unfold's own stops at its start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = f"day ({zone()})"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since = self._day("from")
        if since is not None:
            queryset = queryset.filter(**{f"{self.field_path}__gte": since})
        until = self._day("to", plus=timedelta(days=1))
        if until is not None:
            queryset = queryset.filter(**{f"{self.field_path}__lt": until})
        return queryset

    def _day(self, end: str, *, plus: timedelta = timedelta(0)) -> datetime | None:
        """Return the first instant of the day given, or so much later; None for none, nonsense, or the end of time."""
        given = self.used_parameters.get(f"{self.parameter_name}_{end}") or ""
        try:
            day = parse_date(str(given))
            return timezone.make_aware(datetime.combine(day, time.min) + plus) if day else None
        except (ValueError, OverflowError):
            return None

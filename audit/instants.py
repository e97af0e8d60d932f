"""Instants as people and programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime

# In a query string an unescaped + is a space.
_LOST_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")


def parse_instant(text: str) -> datetime:
    """Return the instant that an RFC 3339 text names, in UTC.

    Errors: ValidationError, code `invalid` for what is no time, `offset_missing` for a time that could mean several
    instants because it does not say its offset, `overflow` for one that no calendar of ours holds.
    """
    try:
        instant = parse_datetime(_LOST_PLUS.sub("+", text.strip()))
    except ValueError:
        instant = None
    if instant is None:
        raise ValidationError("This is no time such as 2030-01-31T12:00:00Z.", code="invalid")
    if instant.tzinfo is None:
        raise ValidationError("Say the offset from UTC, as in 2030-01-31T12:00:00Z.", code="offset_missing")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValidationError("This time is out of range.", code="overflow") from error

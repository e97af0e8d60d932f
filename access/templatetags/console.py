"""What the console's templates need: times, and the actions that one row offers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.db import models
from django.utils.safestring import SafeString

from audit import moments

register = template.Library()


@register.filter
def moment(at: datetime | str | None, absent: str = "—") -> SafeString:
    """Write a time as the console does (audit/moments.py); "" is what Django makes of a relation that is missing."""
    return moments.moment(at if isinstance(at, datetime) else None, absent=absent)


@register.filter
def stamp(at: datetime) -> str:
    """Write a time plainly, with its zone, as for paper."""
    return moments.stamp(at)


@register.simple_tag
def zone() -> str:
    """Name the zone that the page's times are in, for headings of columns that hold times without it."""
    return moments.zone()


@register.simple_tag
def offered(changelist: Any, row: models.Model, actions: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the actions of the row's menu that this row offers; all, in a list that does not narrow them."""
    paths = getattr(changelist, "offered_paths", {}).get(row.pk)
    return [action for action in actions or [] if paths is None or action["raw_path"] in paths]

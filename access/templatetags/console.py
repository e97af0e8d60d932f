"""What the console's templates need: times, and the actions that one row offers."""

from __future__ import annotations

from datetime import datetime
from secrets import token_hex
from typing import Any

from django import template
from django.db import models
from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.safestring import SafeString

from audit import moments

register = template.Library()
# What stands in a menu for a row's id, the same without dashes, and its name; nobody else can write it.
_ID, _SHORT_ID, _NAME = (f"{what}{token_hex(16)}" for what in ("id", "shortid", "name"))


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
def row_menu(changelist: Any, row: models.Model, row_id: Any, actions: list[dict[str, Any]]) -> SafeString:
    """Draw the menu of a row, with the actions that it offers; all, in a list that does not narrow them.

    The template is rendered once a page for all rows that offer the same: for each row it would cost as much as the
    rest of the page.
    """
    paths = getattr(changelist, "offered_paths", {}).get(row.pk)
    offered = [action for action in actions if paths is None or action["raw_path"] in paths]
    if not offered:
        return SafeString("")
    menus = changelist.__dict__.setdefault("row_menus", {})
    which = tuple(action["raw_path"] for action in offered)
    if which not in menus:
        filters = changelist.get_query_string()
        row_of_all = {"row_actions": offered, "row_id": _ID, "action_id": _SHORT_ID, "row_name": _NAME}
        menus[which] = render_to_string("console/row_menu.html", {**row_of_all, "filters": filters})
    menu: str = menus[which].replace(_NAME, escape(row)).replace(_SHORT_ID, str(row_id).replace("-", ""))
    return SafeString(menu.replace(_ID, escape(row_id)))

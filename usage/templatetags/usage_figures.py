"""The usage house's fragments of other houses' pages.

A page of `keys` may not import this house (design §10), but a template may name it: the page of a key loads this
library and gets the figures, the chart and the versions' uses drawn here, beside the queries they need.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import template
from django.db.models import Q
from django.utils import timezone

from audit import clock
from keys.models import GatewayKey, KeyVersion
from keys.status import VersionState
from usage.cutover import cutover, old_value_use
from usage.figures import Point, figures, of_key, requests_by_version, series
from usage.tallies import add_up

register = template.Library()

HOUR = timedelta(hours=1)
STATE_LABELS = {VersionState.CURRENT: "success", VersionState.GRACE: "info", VersionState.CLOSED: "default"}


@register.inclusion_tag("usage/key_usage.html")
def key_usage(key: GatewayKey) -> dict[str, Any]:
    """Draw a key's figures and the chart of its last 24 hours."""
    add_up()
    now = clock.now()
    points = series(of_key(key.pk), at=now)
    return {
        "key": key,
        "metrics": getattr(key, "metrics", None),
        "day": figures(of_key(key.pk), at=now),
        "points": points,
        "is_idle": not any(point.figures.requests or point.figures.denials for point in points),
        "chart": chart_data(points),
    }


@register.inclusion_tag("usage/versions_usage.html")
def versions_usage(versions: Iterable[tuple[KeyVersion, VersionState]], *, accepted: bool = True) -> dict[str, Any]:
    """Draw the table of a key's versions; of those in grace it says what they still served in the last hour.

    accepted: whether the key itself is; if not, no version of it looks as if it were.
    """
    rows = list(versions)
    in_grace = Q(version__in=[version.pk for version, state in rows if state is VersionState.GRACE])
    last_hour = requests_by_version(in_grace, window=HOUR)
    return {
        "rows": [
            {
                "version": version,
                "state": state,
                "variant": STATE_LABELS[state] if accepted else "default",
                "metrics": getattr(version, "metrics", None),
                "last_hour": last_hour.get(version.pk, 0) if state is VersionState.GRACE else None,
            }
            for version, state in rows
        ]
    }


@register.inclusion_tag("usage/cutover.html")
def key_cutover(key: GatewayKey) -> dict[str, Any]:
    """Draw the rotation of a key while it runs; the fragment asks for itself anew."""
    return cutover(key)


@register.inclusion_tag("usage/old_value.html")
def old_value(key: GatewayKey) -> dict[str, Any]:
    """Say whether the older values of a key have gone quiet, and who still sends them."""
    return old_value_use(key, clock.now())


@register.filter
def percent(rate: float | None) -> str:
    """Write a rate of 0..1: "1.2 %", "< 0.1 %", or "not reported" where nobody said."""
    if rate is None:
        return "not reported"
    if 0 < rate < 0.001:
        return "< 0.1 %"
    return f"{rate:.1%}".replace("%", " %")


def chart_data(points: list[Point]) -> str:
    """Return the series as Chart.js takes it: served, of those errors, and denied, one on the other."""

    def bars(label: str, colour: str, counts: list[int]) -> dict[str, Any]:
        return {
            "label": label,
            "data": counts,
            "backgroundColor": colour,
            "stack": "requests",
            "maxBarThickness": 28,
            "borderRadius": 2,
            "displayYAxis": True,
            "maxTicksXLimit": 12,
        }

    served = [point.figures.requests - point.figures.errors for point in points]
    datasets = [
        bars("Served", "var(--color-primary-500)", served),
        bars("Errors", "#f59e0b", [point.figures.errors for point in points]),
        bars("Denied", "#ef4444", [point.figures.denials for point in points]),
    ]
    labels = [f"{timezone.localtime(point.start):%H:%M}" for point in points]
    return json.dumps({"labels": labels, "datasets": datasets})

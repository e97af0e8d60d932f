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
from django.http import QueryDict
from django.utils import timezone

from audit import clock
from audit.moments import zone
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.status import VersionState
from usage.cutover import old_value_use
from usage.figures import (
    DAY,
    WINDOWS,
    Figures,
    Point,
    Window,
    of_gateway,
    of_group,
    of_key,
    requests_by_version,
    seen_by,
    usage,
)
from usage.tallies import add_up

register = template.Library()

HOUR = timedelta(hours=1)
STATE_LABELS = {VersionState.CURRENT: "success", VersionState.GRACE: "info", VersionState.CLOSED: "default"}


# A class of answers, its name in tables, and its colour in charts (usage.css has the same for legends).
CLASSES = (
    ("1xx", "Informed", "#64748b"),
    ("2xx", "Succeeded", "#0d9488"),
    ("3xx", "Redirected", "#3b82f6"),
    ("4xx", "Refused by the service", "#f59e0b"),
    ("5xx", "Failed in the service", "#ef4444"),
)
QUANTILES = (("p50", "#0d9488"), ("p95", "#f59e0b"), ("p99", "#ef4444"))
SLOWEST_MS = 10_000


@register.inclusion_tag("usage/usage.html", takes_context=True)
def key_usage(context: template.Context, key: GatewayKey) -> dict[str, Any]:
    """Draw how a key is doing, and its totals."""
    found = _usage(context, of_key(key.pk))
    return {
        **found,
        "key": key,
        "metrics": getattr(key, "metrics", None),
        "idle_words": "Nothing was asked of this key",
        "idle_advice": "Give its value to the application, which sends it to a gateway with every request.",
    }


@register.inclusion_tag("usage/usage.html", takes_context=True)
def group_usage(context: template.Context, group: ConsumerGroup) -> dict[str, Any]:
    """Draw how the keys of a group are doing, as far as the member sees them."""
    return {
        **_usage(context, of_group(group.pk) & seen_by(context["request"].user)),
        "idle_words": "No key of this group was used or refused",
        "idle_advice": "Create a key in it, and give the key to an application.",
    }


@register.inclusion_tag("usage/usage.html", takes_context=True)
def gateway_usage(context: template.Context, gateway: Any) -> dict[str, Any]:
    """Draw how the requests through a gateway are doing, as far as the member sees their keys."""
    return {
        **_usage(context, of_gateway(gateway.pk) & seen_by(context["request"].user)),
        "idle_words": "This gateway has neither asked nor reported",
        "idle_advice": "Point it at the authorize address with its token; if it shall report, send the usage, too.",
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


@register.filter
def milliseconds(latency: int | None) -> str:
    """Write a latency: "120 ms", "> 10 s" where the histogram ends, or "not reported" where nobody said."""
    if latency is None:
        return "not reported"
    return "> 10 s" if latency >= SLOWEST_MS else f"{latency:,} ms"


def chosen_window(parameters: QueryDict) -> Window:
    """Return the window that an address asks for, the last 24 hours if it asks for none that there is."""
    return WINDOWS.get(parameters.get("window", ""), WINDOWS["24h"])


def _usage(context: template.Context, scope: Q) -> dict[str, Any]:
    add_up()
    request = context["request"]
    window = chosen_window(request.GET)
    found = usage(scope, window, at=clock.now())
    total = found.total
    return {
        "request": request,
        "window": window,
        "switch": _switch(request.GET, window),
        "usage": found,
        "total": total,
        "points": [
            (label, point.figures) for label, point in zip(_labels(found.points, window), found.points, strict=True)
        ],
        "is_idle": not (total.requests or total.denials),
        "classes": _classes(total),
        "models": found.models if any(model for model, _ in found.models) else [],
        "has_tokens": total.tokens > 0,
        "has_latency": total.p50 is not None,
        "chart": _classes_chart(found.points, window),
        "latency_chart": _latency_chart(found.points, window),
    }


def _switch(parameters: QueryDict, chosen: Window) -> list[dict[str, Any]]:
    """Return the links to the other windows; each keeps the rest of the address."""
    links = []
    for window in WINDOWS.values():
        query = parameters.copy()
        query["window"] = window.name
        links.append({"window": window, "href": f"?{query.urlencode()}#usage", "chosen": window is chosen})
    return links


def _classes(total: Figures) -> list[dict[str, Any]]:
    """Return the requests by status class, those that occurred, with their share of what was served."""
    rows = [(name, words, count) for (name, words, _), count in zip(CLASSES, total.statuses, strict=True)]
    rows.append(("none", "No status reported", total.unreported))
    return [
        {"name": name, "words": words, "count": count, "share": count / total.requests if total.requests else None}
        for name, words, count in rows
        if count
    ]


def _labels(points: list[Point], window: Window) -> list[str]:
    """Return what each step is called: the hour where the window is a day, else the day and where it helps the hour."""
    form = "%m-%d" if window.step >= DAY else "%H:%M" if window.span <= DAY else "%m-%d %H:%M"
    return [f"{timezone.localtime(point.start):{form}}" for point in points]


def _classes_chart(points: list[Point], window: Window) -> dict[str, Any]:
    """Return the requests by status class, and the denied, one on the other; without those that never occurred."""
    columns = [
        (name, colour, [point.figures.statuses[place] for point in points])
        for place, (name, _, colour) in enumerate(CLASSES)
    ]
    columns.append(("No status", "#94a3b8", [point.figures.unreported for point in points]))
    columns.append(("Denied", "#a855f7", [point.figures.denials for point in points]))
    datasets = [_bars(label, colour, counts) for label, colour, counts in columns if any(counts)]
    return {
        "data": json.dumps({"labels": _labels(points, window), "datasets": datasets}),
        "options": axes(f"Requests per {window.by}", f"Time ({zone()})", stacked=True),
        "legend": [(dataset["label"], dataset["label"].lower().replace(" ", "-")) for dataset in datasets],
    }


def _latency_chart(points: list[Point], window: Window) -> dict[str, Any]:
    datasets = [
        {
            "label": f"{name} (ms)",
            "data": [getattr(point.figures, name) for point in points],
            "borderColor": colour,
            "backgroundColor": colour,
            "borderWidth": 2,
            "pointRadius": 2,
            "tension": 0.2,
        }
        for name, colour in QUANTILES
    ]
    return {
        "data": json.dumps({"labels": _labels(points, window), "datasets": datasets}),
        "options": axes("Latency (ms)", f"Time ({zone()})", stacked=False),
    }


def axes(y: str, x: str, *, stacked: bool) -> str:
    """Return Chart.js options with titled axes; the colours of text come from usage_charts.js, by the theme."""
    options = {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "index", "intersect": False},
        "plugins": {"legend": {"display": False}},
        "scales": {
            "x": {
                "stacked": stacked,
                "title": {"display": True, "text": x},
                "grid": {"display": False},
                "ticks": {"maxRotation": 0, "autoSkip": True, "maxTicksLimit": 8},
            },
            "y": {
                "stacked": stacked,
                "beginAtZero": True,
                "title": {"display": True, "text": y},
                "grid": {"tickWidth": 0},
                "ticks": {"precision": 0, "maxTicksLimit": 6},
            },
        },
    }
    return json.dumps(options)


def _bars(label: str, colour: str, counts: list[int]) -> dict[str, Any]:
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


def chart_data(points: list[Point]) -> str:
    """Return the series as Chart.js takes it: served, of those errors, and denied, one on the other."""
    served = [point.figures.requests - point.figures.errors for point in points]
    datasets = [
        _bars("Served", "var(--color-primary-500)", served),
        _bars("Errors", "#f59e0b", [point.figures.errors for point in points]),
        _bars("Denied", "#ef4444", [point.figures.denials for point in points]),
    ]
    labels = [f"{timezone.localtime(point.start):%H:%M}" for point in points]
    return json.dumps({"labels": labels, "datasets": datasets})

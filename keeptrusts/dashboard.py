"""The first page: what is there, what was used, and which keys need somebody's attention.

Every number is of what the signed-in member sees; the number of queries does not grow with the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse

from audit import clock
from audit.moments import zone
from gateways.models import Gateway
from keys.hygiene import SOON_DAYS
from keys.models import ConsumerGroup, GatewayKey, GatewayKeyQuerySet
from usage.figures import Figures, day_against_before, seen_by
from usage.templatetags.usage_figures import axes, chart_data, percent
from usage.trends import busiest, rising

if TYPE_CHECKING:
    from access.models import Member


@dataclass(frozen=True, slots=True)
class Figure:
    """One number at the top. note: what it means or is part of; trend: how it was the day before."""

    label: str
    value: str
    note: str
    link: str
    known: bool = True
    trend: str = ""


# So many keys a list on the dashboard names; the rest is behind its link.
NAMED: Final = 5


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the dashboard (templates/admin/index.html)."""
    member = cast("Member", request.user)
    now = clock.now()
    keys = cast("GatewayKeyQuerySet", member.visible(GatewayKey.objects.all()))
    day, before, points = day_against_before(seen_by(member), at=now)
    # Of columns that one index has; usable ones that expire do so after now.
    expiring = Count("expires_at", filter=Q(expires_at__lte=now + timedelta(days=SOON_DAYS)))
    counts = keys.usable(now).aggregate(usable=Count("*"), expiring=expiring)
    context |= {
        "title": "Dashboard",
        "now": now,
        "figures": _figures(counts, day, before),
        "chart": chart_data(points),
        "chart_options": axes("Requests per hour", f"Time ({zone()})", stacked=True),
        "points": list(reversed(points)),
        "used": any(point.figures.requests or point.figures.denials for point in points),
        "busiest": busiest(member, NAMED),
        "rising": rising(member, NAMED, at=now),
        "steps": [] if counts["usable"] or keys.exists() else _first_steps(member),
    }
    return context


def _figures(counts: dict[str, int], day: Figures, before: Figures) -> list[Figure]:
    rate = day.error_rate
    if rate is None:
        note = "no gateway has reported a status" if day.requests else "no requests"
    else:
        note = f"{day.errors:,} of {day.reported:,} reported"
    events = reverse("admin:usage_usageevent_changelist")
    return [
        Figure("Active keys", f"{counts['usable']:,}", "accepted now", _keys_link()),
        Figure(
            "Expiring", f"{counts['expiring']:,}", f"within {SOON_DAYS} days", _keys_link(expiring_within=SOON_DAYS)
        ),
        Figure(
            "Requests",
            f"{day.requests:,}",
            f"last 24 h, and {day.denials:,} denied",
            events,
            trend=_trend(day.requests, before.requests),
        ),
        Figure(
            "Error rate",
            percent(rate),
            f"last 24 h, {note}",
            f"{events}?status_class=errors",
            known=rate is not None,
            trend="" if before.error_rate is None else f"{percent(before.error_rate)} the day before",
        ),
    ]


def _trend(now: int, before: int) -> str:
    """Return how a number of requests has changed: "+12 % against the day before"."""
    if not before:
        return "no requests the day before" if now else ""
    change = round((now - before) / before * 100)
    if not change:
        return "as many as the day before"
    return f"{change:+,} % against the day before"


def _first_steps(member: Member) -> list[dict[str, Any]]:
    """Return what to do on an empty console, in order: for each step its link where the member may do it."""
    steps = [
        (
            "Create a consumer group",
            "The team or application family that keys are scoped to, with the policy for them.",
            "keys_consumergroup",
            "keys.add_consumergroup",
            ConsumerGroup,
        ),
        (
            "Register a gateway",
            "Where requests pass: nginx, Envoy, Caddy, LiteLLM. It gets a token of its own.",
            "gateways_gateway",
            "gateways.add_gateway",
            Gateway,
        ),
        (
            "Create a gateway key",
            "What an application presents. Its value is shown once.",
            "keys_gatewaykey",
            "keys.add_gatewaykey",
            GatewayKey,
        ),
    ]
    return [
        {
            "title": title,
            "words": words,
            "link": reverse(f"admin:{route}_add") if member.may(permission) else "",
            "done": model is not GatewayKey and member.visible(model._default_manager.all()).exists(),
        }
        for title, words, route, permission, model in steps
    ]


def _keys_link(**filters: Any) -> str:
    """Return the list of keys with these filters, and only those that are accepted now where no status is named."""
    filters = {"status": ["active", "rotating"], **filters}
    return f"{reverse('admin:keys_gatewaykey_changelist')}?{urlencode(filters, doseq=True)}"

"""The first page: what is there, what was used, and which keys need somebody's attention.

Every number is of what the signed-in member sees; the number of queries does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit import clock
from audit.moments import moment, relative
from gateways.models import Gateway
from keys.models import ConsumerGroup, GatewayKey, GatewayKeyQuerySet
from usage.figures import DAY, Figures, figures, seen_by, series
from usage.templatetags.usage_figures import chart_data, percent

if TYPE_CHECKING:
    from access.models import Member

SOON_DAYS: Final = 7
UNUSED_DAYS: Final = 30
# A grace is long when an old value is still accepted for more than this.
LONG_GRACE: Final = timedelta(days=2)
# So many keys a list on the dashboard names; the rest is behind its link.
NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """One number at the top. note: what it means or is part of."""

    label: str
    value: str
    note: str
    link: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Concern:
    """A reason why keys need attention, the first of them, how many there are, and where the others are listed."""

    title: str
    icon: str
    why: str
    keys: list[tuple[GatewayKey, str, SafeString | str]]
    count: int
    link: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the dashboard (templates/admin/index.html)."""
    member = cast("Member", request.user)
    now = clock.now()
    keys = cast("GatewayKeyQuerySet", member.visible(GatewayKey.objects.all()))
    scope = seen_by(member)
    points = series(scope, at=now)
    counts = _counts(keys, now)
    context |= {
        "title": "Dashboard",
        "now": now,
        "figures": _figures(counts, figures(scope, at=now)),
        "chart": chart_data(points),
        "points": list(reversed(points)),
        "used": any(point.figures.requests or point.figures.denials for point in points),
        "concerns": [concern for concern in _concerns(keys, counts, now) if concern.count],
        "steps": [] if keys.exists() else _first_steps(member),
    }
    return context


def _counts(keys: GatewayKeyQuerySet, now: datetime) -> dict[str, int]:
    """Return how many keys are accepted now, and of those, how many there are of each concern: all in one query."""
    long_ago, soon = now - timedelta(days=UNUSED_DAYS), now + timedelta(days=SOON_DAYS)
    never_used = Q(metrics__last_used_at__isnull=True)
    unused = Q(created_at__lt=long_ago) & (never_used | Q(metrics__last_used_at__lt=long_ago))
    return keys.usable(now).aggregate(
        usable=Count("pk"),
        expiring=Count("pk", filter=Q(expires_at__gt=now, expires_at__lte=soon)),
        in_grace=Count("pk", filter=Q(grace_until__gt=now + LONG_GRACE)),
        unused=Count("pk", filter=unused),
        never_used=Count("pk", filter=never_used & Q(created_at__lt=now - DAY)),
        no_expiry=Count("pk", filter=Q(expires_at__isnull=True)),
    )


def _figures(counts: dict[str, int], day: Figures) -> list[Figure]:
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
        Figure("Requests", f"{day.requests:,}", f"last 24 h, and {day.denials:,} denied", events),
        Figure(
            "Error rate", percent(rate), f"last 24 h, {note}", f"{events}?status_class=errors", known=rate is not None
        ),
    ]


def _concerns(keys: GatewayKeyQuerySet, counts: dict[str, int], now: datetime) -> list[Concern]:
    usable = keys.usable(now)
    return [
        _concern(
            counts["expiring"],
            "Expiring soon",
            "schedule",
            f"They stop working within {SOON_DAYS} days: rotate them, or let them end.",
            usable.expiring_within(SOON_DAYS, now).order_by("expires_at", "pk"),
            lambda key: moment(key.expires_at, now=now),
            _keys_link(expiring_within=SOON_DAYS),
        ),
        _concern(
            counts["in_grace"],
            "Long in grace",
            "hourglass_top",
            "An old value is still accepted for more than two days: end its grace when nobody uses it any more.",
            usable.filter(grace_until__gt=now + LONG_GRACE).order_by("-grace_until", "pk"),
            lambda key: moment(key.grace_until, now=now),
            _keys_link(status=["rotating"]),
        ),
        _concern(
            counts["unused"],
            "Unused for 30 days",
            "bedtime",
            "Nobody seems to need them: disable them, then revoke them.",
            usable.unused_for(UNUSED_DAYS, now).order_by("created_at", "pk"),
            lambda key: moment(_last_used(key), absent="never used", now=now),
            _keys_link(attention=["unused"]),
        ),
        _concern(
            counts["never_used"],
            "Never used",
            "block",
            "Made more than a day ago, and no gateway has seen one of them.",
            usable.never_used().filter(created_at__lt=now - DAY).order_by("created_at", "pk"),
            lambda key: format_html('<span class="kt-quiet">made {}</span>', relative(key.created_at, now)),
            _keys_link(attention=["never_used"]),
        ),
        _concern(
            counts["no_expiry"],
            "Without expiry",
            "all_inclusive",
            "A leaked key of these works until somebody notices: give them an expiry.",
            usable.without_expiry().order_by("created_at", "pk"),
            lambda key: format_html('<span class="kt-quiet">made {}</span>', relative(key.created_at, now)),
            _keys_link(attention=["no_expiry"]),
        ),
    ]


def _concern(
    count: int,
    title: str,
    icon: str,
    why: str,
    keys: GatewayKeyQuerySet,
    when: Callable[[GatewayKey], SafeString | str],
    link: str,
) -> Concern:
    first = keys.with_metrics().select_related("consumer_group")[:NAMED] if count else []
    named = [(key, reverse("admin:keys_gatewaykey_change", args=[key.pk]), when(key)) for key in first]
    return Concern(title, icon, why, named, count, link)


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


def _last_used(key: GatewayKey) -> datetime | None:
    return key.metrics.last_used_at if hasattr(key, "metrics") else None


def _keys_link(**filters: Any) -> str:
    """Return the list of keys with these filters, and only those that are accepted now where no status is named."""
    filters = {"status": ["active", "rotating"], **filters}
    return f"{reverse('admin:keys_gatewaykey_changelist')}?{urlencode(filters, doseq=True)}"

"""Denials as people look for them: by decision id, key, hint, group or address, within a span of time."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from access.models import Member
from access.tokens import HINT_LENGTH
from audit import clock
from gateways.addresses import parse_address
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from usage.models import Outcome, UsageEvent
from usage.newest import newest

WINDOWS: Final = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
# So many keys, or versions of a hint, a search looks at.
MOST_KEYS: Final = 100
_VALUE: Final = re.compile(r"(kt_(?:gk|gt|ak)_[A-Za-z0-9]{4})[A-Za-z0-9]+")


def without_values(text: str) -> str:
    """Return `text` with no more than the hint of every value in it, and without what no database takes."""
    return _VALUE.sub(r"\1", text.replace("\x00", "")).strip()[:200]


def denials(member: Member, *, term: str, window: str, reason: str, count: int) -> QuerySet[UsageEvent]:
    """Return the denials that `member` sees and that fit, the latest first, `count` of them at least if there are.

    A decision id is found at any time. Each way to search has an index (usage/models.py); no reason is blank, which
    tells PostgreSQL that it may use those of denials alone.
    """
    seen = member.visible(UsageEvent.objects.filter(~Q(reason=""), outcome=Outcome.DENIED))
    seen = seen.order_by("-occurred_at", "-id")
    if reason:
        seen = seen.filter(reason=reason)
    recent = seen.filter(occurred_at__gte=clock.now() - WINDOWS[window][1])
    if not term:
        return recent
    if term.startswith("kt_"):
        hinted = KeyVersion.objects.filter(hint__startswith=term.rstrip("….")[:HINT_LENGTH])
        keys = dict(member.visible(hinted).values_list("pk", "key_id")[:MOST_KEYS])
        return newest(recent.filter(version__in=keys), "key", set(keys.values()), count)
    if (address := parse_address(term)) is not None:
        return recent.filter(client_ip=str(address))
    if (decided := seen.filter(decision_id=term)).exists():
        return decided
    named = Q(name__icontains=term)
    if (key_id := _uuid(term)) is not None:
        named |= Q(pk=key_id)
    found = member.visible(GatewayKey.objects.filter(named)).values_list("pk", flat=True)[:MOST_KEYS]
    of_keys = newest(recent, "key", list(found), count)
    of_name = Q(slug__iexact=term) | Q(name__icontains=term)
    groups = member.visible(ConsumerGroup.objects.filter(of_name)).values_list("pk", flat=True)[:MOST_KEYS]
    return of_keys | newest(recent, "consumer_group", list(groups), count)


def by_reason(key_id: UUID) -> list[dict[str, Any]]:
    """Return, for each reason a key was refused for in the last 7 days, `day` and `week`: events that are kept."""
    now = clock.now()
    of_week = Q(outcome=Outcome.DENIED, occurred_at__gte=now - timedelta(days=7))
    # As the index of a key's denials has it.
    recent = UsageEvent.objects.filter(~Q(reason=""), of_week, key=key_id)
    in_day = Count("pk", filter=Q(occurred_at__gte=now - timedelta(hours=24)))
    rows = recent.order_by().values("reason").annotate(day=in_day, week=Count("pk")).order_by("-week", "reason")
    return cast("list[dict[str, Any]]", list(rows))


def _uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None

"""Which keys are busiest, and whose error rate rises: cheap however many keys and events there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import F, Sum

from access.models import Member
from keys.models import GatewayKey
from keys.visibility import reachable_keys
from usage.figures import DAY
from usage.models import BUCKET_SPAN, ERRORS_THAT_COUNT, STATUS_FIELDS, KeyMetrics, UsageBucket

# Below these, a rate says nothing: one failure of three requests is 33 %.
FEWEST_REPORTED: Final = 50
# A rate rises when it is so many times that of the day before, and so much above it.
RISE_FACTOR: Final = 1.5
RISE: Final = 0.01
# The rates of so many keys, those with most errors, are held against the day before.
CANDIDATES: Final = 100


@dataclass(frozen=True, slots=True)
class Rise:
    """A key whose error rate rises. before and now: its rates, 0..1; errors: of the last 24 hours."""

    key: GatewayKey
    before: float
    now: float
    errors: int


def busiest(member: Member, count: int) -> list[KeyMetrics]:
    """Return the figures of the keys with most requests in 24 hours, of those that `member` sees."""
    rows = KeyMetrics.objects.filter(reachable_keys(member, "key__"), requests_24h__gt=0)
    return list(rows.select_related("key__consumer_group").order_by("-requests_24h", "key_id")[:count])


def rising(member: Member, count: int, *, at: datetime) -> list[Rise]:
    """Return the keys whose error rate of 24 hours has risen most against the 24 hours before, in two queries.

    Only keys with enough requests on both days, so that noise is no news.
    """
    rows = KeyMetrics.objects.filter(
        reachable_keys(member, "key__"), errors_24h__gte=ERRORS_THAT_COUNT, reported_24h__gte=FEWEST_REPORTED
    )
    rows = rows.select_related("key__consumer_group").order_by("-errors_24h")[:CANDIDATES]
    candidates = {metrics.key_id: metrics for metrics in rows}
    before = _rates_before(list(candidates), at) if candidates else {}
    rises = [
        Rise(candidates[key_id].key, rate, now, candidates[key_id].errors_24h)
        for key_id, rate in before.items()
        if (now := candidates[key_id].error_rate_24h or 0.0) >= max(rate * RISE_FACTOR, rate + RISE)
    ]
    return sorted(rises, key=lambda rise: rise.before - rise.now)[:count]


def _rates_before(key_ids: list[UUID], at: datetime) -> dict[UUID, float]:
    """Return the error rates of the 24 hours before the last, of the keys with enough requests in them."""
    reported = sum((F(field) for field in STATUS_FIELDS[1:]), F(STATUS_FIELDS[0]))
    buckets = UsageBucket.objects.filter(
        version__key__in=key_ids, start__gt=at - 2 * DAY - BUCKET_SPAN, start__lte=at - DAY - BUCKET_SPAN
    )
    rows = buckets.values_list("version__key").annotate(
        of_reported=Sum(reported), of_errors=Sum(F("status_4xx") + F("status_5xx"))
    )
    return {key_id: errors / count for key_id, count, errors in rows.order_by() if count >= FEWEST_REPORTED}

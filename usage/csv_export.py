"""The CSV of usage: every event that is kept, and the exact sums of each day."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import TruncDay

from audit.actions import AuditAction
from audit.csv_cells import Column, Kind
from audit.exports import Export
from usage.figures import SUMS
from usage.models import STATUS_FIELDS, UsageBucket

EVENTS: Final = Export(
    AuditAction.USAGE_EXPORTED,
    "usage_event",
    "usage-events.csv",
    (
        Column("id", Kind.NUMBER),
        Column("event_id", Kind.TEXT),
        Column("occurred_at", Kind.INSTANT),
        Column("received_at", Kind.INSTANT),
        Column("outcome", Kind.WORD),
        Column("reason", Kind.WORD),
        Column("gateway", Kind.TEXT, "gateway__name"),
        Column("gateway_id", Kind.NUMBER),
        Column("key_id", Kind.NUMBER),
        Column("key_name", Kind.TEXT, "key__name"),
        Column("key_version", Kind.NUMBER, "version__number"),
        Column("consumer_group", Kind.WORD, "consumer_group__slug"),
        Column("decision_id", Kind.TEXT),
        Column("status", Kind.NUMBER),
        Column("latency_ms", Kind.NUMBER),
        Column("method", Kind.TEXT),
        Column("path", Kind.TEXT),
        Column("client_ip", Kind.NUMBER),
        Column("provider", Kind.TEXT),
        Column("model", Kind.TEXT),
        Column("operation", Kind.TEXT),
        Column("input_tokens", Kind.NUMBER),
        Column("output_tokens", Kind.NUMBER),
        Column("cost", Kind.NUMBER),
    ),
)
# By which the sums of a day are told apart, in this order.
_APART: Final = (
    Column("day", Kind.DAY),
    Column("key_id", Kind.NUMBER, "version__key_id"),
    Column("key_name", Kind.TEXT, "version__key__name"),
    Column("key_version", Kind.NUMBER, "version__number"),
    Column("consumer_group", Kind.WORD, "consumer_group__slug"),
    Column("gateway", Kind.TEXT, "gateway__name"),
    Column("gateway_id", Kind.NUMBER),
    Column("model", Kind.TEXT),
)
_SUMS: Final = {**SUMS, **{field: Sum(field) for field in STATUS_FIELDS}}
DAYS: Final = Export(
    AuditAction.USAGE_EXPORTED,
    "usage_day",
    "usage-days.csv",
    (*_APART, *(Column(name, Kind.NUMBER, f"sum_{name}") for name in _SUMS)),
)


def per_day(buckets: QuerySet[UsageBucket]) -> QuerySet[UsageBucket, Any]:
    """Return the sums of `buckets` per day in UTC, key version, group at the time, gateway and model; newest first."""
    days = buckets.order_by().annotate(day=TruncDay("start", tzinfo=UTC))
    apart = [str(column.source or column.name) for column in _APART]
    sums: QuerySet[UsageBucket, Any] = days.values(*apart).annotate(
        **{f"sum_{name}": total for name, total in _SUMS.items()}
    )
    return sums.order_by(F("day").desc(), *apart[1:])

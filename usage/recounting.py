"""The nightly recount: do the sums of gateways that report still say what their events say? If not, they are repaired.

Only where the events are the whole truth: of gateways that report, from when on they do (the audit log knows), and of
hours of which every event is still kept. Denials are counted by authorize alone, and left alone here.

It is exact while ingest goes on. One statement reads events and buckets, both as of one moment, and ingest writes both
in one transaction. What is repaired is the difference, by adding it to whatever has been counted meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.models import AuditEntry
from audit.recording import Subject, record
from keys.models import KeyVersion
from usage.figures import SUMS
from usage.models import (
    BUCKET_SPAN,
    HOUR,
    LATENCY_BOUNDS,
    LATENCY_FIELDS,
    STATUS_FIELDS,
    KeptEvents,
    KeyMetrics,
    Outcome,
    UsageBucket,
    UsageEvent,
    VersionMetrics,
)
from usage.raw import identity, to_database
from usage.sums import SUM_FIELDS, BucketKey, Sums, Use, add, bucket_start
from usage.tending import is_only_tender

logger = logging.getLogger(__name__)

ACTOR: Final = Actor.system("recount")
# A model of the house above, by way of our own relation to it (design §10).
GATEWAY: Final[Any] = UsageEvent._meta.get_field("gateway").related_model
# So many differences are named in an entry.
NAMED: Final = 20

COUNTED: Final = tuple(name for name in SUM_FIELDS if name != "denials")


class _Of(NamedTuple):
    """What an event's bucket is told by, beside the time."""

    version_id: int | None
    group_id: int | None
    gateway_id: UUID
    model: str


type _Difference = Mapping[_Of, dict[str, int]]


def first_day() -> date:
    """Return the first day of which every event may still be kept."""
    return (clock.now() - settings.KEEPTRUSTS_USAGE_RETENTION).date() + timedelta(days=1)


def recount(day: date) -> bool:
    """Compare the day's sums (UTC) with its events, hour by hour, and repair them; hours still running are left out.

    Returns False, and leaves the rest of the day, where somebody else tends the tables right now.
    """
    hour, now, reporting = datetime.combine(day, time(), UTC), clock.now(), _reporting()
    for _ in range(24):
        gateways = [id_ for id_, since in reporting.items() if since <= hour]
        if gateways and hour + HOUR <= now and not _recount_hour(hour, gateways):
            return False
        hour += HOUR
    return True


def _reporting() -> dict[UUID, datetime]:
    """Return the gateways that report, each with when it began to, as far as it is certain."""
    since = {}
    for id_ in GATEWAY.objects.filter(usage_source="report").values_list("pk", flat=True):
        switched = AuditEntry.objects.filter(
            object_type="gateway", object_id=str(id_), after__has_key="usage_source"
        ).order_by("-id")
        if (at := switched.values_list("at", flat=True).first()) is not None:
            # A process that authorizes may not have known at that very moment.
            since[id_] = at + BUCKET_SPAN
    return since


@transaction.atomic
def _recount_hour(hour: datetime, gateways: Sequence[UUID]) -> bool:
    if not is_only_tender():
        return False
    # Nobody deletes events while we are at it: that would need the same lock.
    if KeptEvents.objects.filter(since__gt=hour).exists():
        return True
    # By the hour, which is what stays in the end.
    different = _differences(hour, hour + HOUR, gateways)
    if different:
        _repair(hour, gateways, different)
        _repair_totals({of.version_id for of in different if of.version_id})
        for gateway in GATEWAY.objects.filter(pk__in={of.gateway_id for of in different}):
            _report(gateway, hour, {of: figures for of, figures in different.items() if of.gateway_id == gateway.pk})
    return True


def _differences(since: datetime, until: datetime, gateways: Sequence[UUID]) -> _Difference:
    """Return what the buckets of this span lack, and with a minus, what they have too much."""
    span = [to_database(value) for value in (since, until, *gateways)]
    # SQLite would take the index of the gateway, which leads to everything it ever sent, if it could (+).
    column = "gateway_id" if connection.vendor == "postgresql" else "+gateway_id"
    sql = _DIFFERENCES.format(ours=f"{column} IN ({', '.join(['%s'] * len(gateways))})")
    with connection.cursor() as cursor:
        cursor.execute(sql, [Outcome.SERVED.value, *span, *span])
        rows = cursor.fetchall()
    return {
        _Of(version_id, group_id, identity(gateway_id), model): {
            name: int(figure) for name, figure in zip(COUNTED, figures, strict=True) if figure
        }
        for version_id, group_id, gateway_id, model, *figures in rows
    }


def _repair(hour: datetime, gateways: Sequence[UUID], different: _Difference) -> None:
    """Add to the buckets of the hour what they lack; five minutes by five minutes, in the order of every writer."""
    start = hour
    while start < hour + HOUR:
        for of, lacking in sorted(_differences(start, start + BUCKET_SPAN, gateways).items(), key=_order):
            if of in different:
                _add(BucketKey(bucket_start(start), *of), start, lacking)
        start += BUCKET_SPAN


def _add(bucket: BucketKey, start: datetime, lacking: Mapping[str, int]) -> None:
    there = UsageBucket.objects.filter(
        start=start,
        version=bucket.version_id,
        consumer_group=bucket.group_id,
        gateway=bucket.gateway_id,
        model=bucket.model,
    )
    # What is there is updated: an upsert of what is to be taken away would be refused as a negative sum.
    if not there.update(**{name: F(name) + figure for name, figure in lacking.items()}):
        add(Sums(buckets={bucket: [lacking.get(name, 0) for name in SUM_FIELDS]}))


def _repair_totals(version_ids: set[int]) -> None:
    """Sum up anew what the versions and their keys show as totals."""
    versions = KeyVersion.objects.in_bulk(version_ids)
    # Nothing is added, but every row is there and locked: who counts meanwhile adds to what is written here.
    add(Sums(uses={id_: Use(version.key_id) for id_, version in versions.items()}))
    for id_ in versions:
        total = UsageBucket.objects.filter(version=id_).aggregate(total=SUMS["requests"])["total"]
        VersionMetrics.objects.filter(pk=id_).update(total_requests=total)
    for key_id in {version.key_id for version in versions.values()}:
        sums = UsageBucket.objects.filter(version__key=key_id).aggregate(**SUMS)
        KeyMetrics.objects.filter(pk=key_id).update(
            total_requests=sums["requests"], total_reported=sums["reported"], total_errors=sums["errors"]
        )


def _report(gateway: Any, hour: datetime, different: _Difference) -> None:
    """Record what was repaired, in the transaction that repairs it, and say so in the log."""
    versions = KeyVersion.objects.in_bulk({of.version_id for of in different if of.version_id})
    differences = [
        {
            "key": versions[of.version_id].key_id if of.version_id in versions else None,
            "version": versions[of.version_id].number if of.version_id in versions else None,
            "model": of.model,
            "added": figures,
        }
        for of, figures in sorted(different.items(), key=_order)
    ]
    detail = {"hour": hour, "buckets": len(differences), "differences": differences[:NAMED]}
    record(AuditAction.USAGE_RECOUNTED, ACTOR, Subject("gateway", gateway.pk, gateway.name), detail=detail)
    words = "The sums of gateway %s in the hour from %s were not what its events say; %s are repaired."
    logger.warning(words, gateway.pk, hour.isoformat(), len(differences))


def _order(difference: tuple[_Of, Any]) -> tuple[object, ...]:
    of, _ = difference
    return (of.version_id or 0, of.group_id or 0, of.gateway_id, of.model)


def _classes(column: str, bounds: Iterable[tuple[str, int | None]]) -> dict[str, str]:
    """Return, for each class of a value, the SQL that is 1 for an event in it. bounds: its name and its upper bound."""
    below, classes = "-1", {}
    for name, bound in bounds:
        upper = f" AND {column} <= {bound}" if bound is not None else ""
        classes[name], below = f"CASE WHEN {column} > {below}{upper} THEN 1 ELSE 0 END", str(bound)
    return classes


_OF: Final = "version_id, consumer_group_id, gateway_id, model"
# What an event adds to each figure of its bucket, as `usage.sums` counts it.
_OF_EVENT: Final = {
    "requests": "1",
    **_classes("status", ((name, number * 100 + 99) for number, name in enumerate(STATUS_FIELDS, 1))),
    "input_tokens": "coalesce(input_tokens, 0)",
    "output_tokens": "coalesce(output_tokens, 0)",
    **_classes("latency_ms", zip(LATENCY_FIELDS, (*LATENCY_BOUNDS, None), strict=True)),
}
_DIFFERENCES: Final = f"""
SELECT {_OF}, {", ".join(f"sum({name})" for name in COUNTED)}
FROM (
    SELECT {_OF}, {", ".join(f"{_OF_EVENT[name]} AS {name}" for name in COUNTED)}
    FROM {UsageEvent._meta.db_table}
    WHERE outcome = %s AND occurred_at >= %s AND occurred_at < %s AND {{ours}}
    UNION ALL
    SELECT {_OF}, {", ".join(f"-{name}" for name in COUNTED)}
    FROM {UsageBucket._meta.db_table}
    WHERE start >= %s AND start < %s AND {{ours}}
) AS counted
GROUP BY {_OF}
HAVING {" OR ".join(f"sum({name}) <> 0" for name in COUNTED)}
"""  # noqa: S608  # names and numbers of ours alone

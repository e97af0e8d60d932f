"""The newest events of many keys, versions or groups: some of each from its index, instead of all or a walk by time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from usage.models import UsageEvent

_NEWEST: Final = """
SELECT newest.id, newest.occurred_at
FROM unnest(%s) AS sought(id) CROSS JOIN LATERAL ({events}) AS newest (id, occurred_at)
ORDER BY newest.occurred_at {way}, newest.id {way} LIMIT %s
"""


def newest(
    events: QuerySet[UsageEvent], of: str, ids: Collection[UUID] | Collection[int], count: int
) -> QuerySet[UsageEvent]:
    """Narrow `events` to those whose column `of` is one of `ids`; the first `count` in time are certain to be there.

    events: ordered by time, the latest or the oldest first. On PostgreSQL the others are left out: it would go through
    all events by time where the ids have few, and sort all of theirs where they have many, and cannot know beforehand.
    """
    if not ids:
        return events.none()
    if connection.vendor != "postgresql":
        return events.filter(**{f"{of}__in": ids})
    way = "DESC" if str(events.query.order_by[0]).startswith("-") else "ASC"
    one = events.filter(**{of: RawSQL("sought.id", ())}).values("pk", "occurred_at")[:count]
    sql, params = one.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST.format(events=sql, way=way), [list(ids), *params, count])
        found: list[tuple[int, Any]] = cursor.fetchall()
    # By their times, too: these say in which days' partitions they are.
    return events.filter(pk__in=[id_ for id_, _ in found], occurred_at__in={at for _, at in found})

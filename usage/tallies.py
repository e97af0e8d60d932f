"""Requests of a flood: counted by their versions, written as they are, and added up a little later.

To add to the sums costs as much for one request of a version as for a thousand. So what a flush has counted of many
versions is only made durable, in one row, and those who add up find it there: the job, every few seconds, and whoever
wants to know about a key to the second.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Final
from uuid import UUID

from django.db import connection, transaction

from keys.models import KeyVersion
from usage.models import PendingTallies
from usage.sums import BucketKey, Sums, add

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# Rows that are added up in one transaction, and versions in one statement.
MOST_ROWS: Final = 100
BATCH: Final = 500

# Whose requests are counted together: start of the bucket, version, group, gateway. A tuple alone: every request makes
# one, and to make a named one takes five times as long.
type Whose = tuple[int, int, int | None, UUID]


@dataclass(slots=True)
class Tally:
    """How many requests there were. public_id: the id of their key, as text."""

    public_id: bytes
    last_used_at: datetime
    requests: int = 0


# As it is kept: version, group (0 = none), requests, last use in microseconds since 1970.
_PACKED: Final = struct.Struct("<qqqq")


def put_off(served: Mapping[Whose, Tally]) -> None:
    """Write the tallies to be added up later, in the caller's transaction."""
    packed: defaultdict[tuple[int, UUID], bytearray] = defaultdict(bytearray)
    pack = _PACKED.pack
    for (start, version_id, group_id, gateway_id), tally in served.items():
        last_used = (tally.last_used_at - EPOCH) // MICROSECOND
        packed[start, gateway_id] += pack(version_id, group_id or 0, tally.requests, last_used)
    PendingTallies.objects.bulk_create(
        PendingTallies(start=datetime.fromtimestamp(start, UTC), gateway_id=gateway_id, tallies=bytes(some))
        for (start, gateway_id), some in packed.items()
    )


def add_up() -> int:
    """Add what was put off to the sums; returns how many rows it was. What others are adding up is left to them."""
    rows = 0
    # Looked at first without a transaction, which on SQLite would make all writers wait.
    while PendingTallies.objects.exists() and (found := _add_up_some()):
        rows += found
    return rows


@transaction.atomic
def _add_up_some() -> int:
    unlocked = connection.features.has_select_for_update_skip_locked
    rows = list(PendingTallies.objects.select_for_update(skip_locked=unlocked).order_by("id")[:MOST_ROWS])
    sums = Sums()
    keys = _keys({version_id for row in rows for version_id, *_ in _unpacked(row)})
    for row in rows:
        start = int(row.start.timestamp())
        for version_id, group_id, requests, last_used in _unpacked(row):
            bucket = BucketKey(start, version_id, group_id or None, row.gateway_id)
            sums.request(bucket, key_id=keys[version_id], at=EPOCH + last_used * MICROSECOND, count=requests)
    add(sums)
    PendingTallies.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _unpacked(row: PendingTallies) -> Iterator[tuple[int, int, int, int]]:
    return _PACKED.iter_unpack(row.tallies)


def _keys(versions: Iterable[int]) -> dict[int, UUID]:
    """Return the key of each version."""
    keys: dict[int, UUID] = {}
    for some in batched(versions, BATCH):
        keys.update(KeyVersion.objects.filter(pk__in=some).values_list("pk", "key_id"))
    return keys

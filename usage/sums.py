"""Exact sums on their way into the database: what is to be added to buckets, versions and keys."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Model

from usage.models import (
    BUCKET_SPAN,
    LATENCY_BOUNDS,
    LATENCY_FIELDS,
    STATUS_FIELDS,
    KeyMetrics,
    UsageBucket,
    VersionMetrics,
)
from usage.raw import insert

SUM_FIELDS: Final = ("requests", "denials", *STATUS_FIELDS, "input_tokens", "output_tokens", *LATENCY_FIELDS)
BUCKET_COLUMNS: Final = ("start", "version_id", "consumer_group_id", "gateway_id", "model")
FIRST_ERROR: Final = 400

_REQUESTS: Final = SUM_FIELDS.index("requests")
_DENIALS: Final = SUM_FIELDS.index("denials")
_STATUSES: Final = SUM_FIELDS.index(STATUS_FIELDS[0])
_INPUT_TOKENS: Final = SUM_FIELDS.index("input_tokens")
_OUTPUT_TOKENS: Final = SUM_FIELDS.index("output_tokens")
_LATENCIES: Final = SUM_FIELDS.index(LATENCY_FIELDS[0])
_SPAN_SECONDS: Final = int(BUCKET_SPAN.total_seconds())


class BucketKey(NamedTuple):
    """Which bucket: its BUCKET_COLUMNS. start: whole multiples of BUCKET_SPAN since 1970, UTC, in seconds."""

    start: int
    version_id: int | None
    group_id: int | None
    gateway_id: UUID
    model: str = ""


@dataclass(slots=True)
class Use:
    """What is to be added to a version and its key. last_used_at: None = not used, only denied."""

    key_id: UUID
    requests: int = 0
    reported: int = 0
    errors: int = 0
    last_used_at: datetime | None = None

    def used(self, at: datetime) -> None:
        if self.last_used_at is None or at > self.last_used_at:
            self.last_used_at = at


def bucket_start(at: datetime) -> int:
    """Return the start of the bucket that `at` falls into, seconds since 1970."""
    seconds = int(at.timestamp() // 1)
    return seconds - seconds % _SPAN_SECONDS


@dataclass(slots=True)
class Sums:
    """What is to be added: per bucket the figures of SUM_FIELDS, per version its use."""

    buckets: dict[BucketKey, list[int]] = field(default_factory=dict)
    uses: dict[int, Use] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.buckets or self.uses)

    def request(
        self,
        bucket: BucketKey,
        *,
        key_id: UUID,
        at: datetime,
        status: int | None = None,
        latency_ms: int | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        count: int = 1,
    ) -> None:
        """Count a request that was served at `at`; the bucket names its version. status: None = not reported.

        count: how many there were of the kind; the tokens are those of all together.
        """
        figures = self._figures(bucket)
        figures[_REQUESTS] += count
        figures[_INPUT_TOKENS] += input_tokens
        figures[_OUTPUT_TOKENS] += output_tokens
        if latency_ms is not None:
            figures[_LATENCIES + bisect_left(LATENCY_BOUNDS, latency_ms)] += count
        use = self.use(bucket.version_id, key_id)
        use.requests += count
        use.used(at)
        if status is not None:
            figures[_STATUSES + status // 100 - 1] += count
            use.reported += count
            use.errors += count * (status >= FIRST_ERROR)

    def denial(self, bucket: BucketKey) -> None:
        """Count a request that was denied; never as a request, and the key was not used."""
        self._figures(bucket)[_DENIALS] += 1

    def use(self, version_id: int | None, key_id: UUID) -> Use:
        """Return what is to be added to a version of a key, so far. Errors: ValueError without a version."""
        if version_id is None:
            raise ValueError("only a version of a key is used")
        use = self.uses.get(version_id)
        if use is None:
            use = self.uses[version_id] = Use(key_id)
        return use

    def _figures(self, bucket: BucketKey) -> list[int]:
        figures = self.buckets.get(bucket)
        if figures is None:
            figures = self.buckets[bucket] = [0] * len(SUM_FIELDS)
        return figures


def add(sums: Sums) -> None:
    """Add the sums to buckets, versions and keys, in the caller's transaction.

    Every writer goes through the tables and through the rows of each in one order, so that no two wait for each other.
    """
    _add_up(_BUCKETS, _bucket_rows(sums.buckets))
    _add_up(_VERSIONS, ((id_, use.requests, use.last_used_at) for id_, use in sorted(sums.uses.items(), key=_first)))
    _add_up(_KEYS, _key_rows(sums.uses.values()))


def add_hourly(buckets: Mapping[BucketKey, Sequence[int]]) -> None:
    """Add figures to buckets that stand for a whole hour, and mark them as such, in the caller's transaction."""
    _add_up(_HOURS, _bucket_rows(buckets))


@dataclass(frozen=True, slots=True)
class _Target:
    """A table that is added to.

    conflict: its unique index, as SQL names it. added: columns that are summed; marks: columns that become true.
    """

    model: type[Model]
    identity: tuple[str, ...]
    conflict: str
    added: tuple[str, ...]
    latest: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.identity, *self.added, *self.latest, *self.zeros, *self.marks)

    def upsert(self) -> str:
        """Return what is done with a row that is there already."""
        table, greatest = self.model._meta.db_table, "greatest" if connection.vendor == "postgresql" else "max"
        changes = [f"{name} = {table}.{name} + excluded.{name}" for name in self.added]
        changes += [f"{name} = excluded.{name}" for name in self.marks]
        for name in self.latest:
            old, new = f"{table}.{name}", f"excluded.{name}"
            # SQLite's max() of anything and NULL is NULL.
            changes.append(f"{name} = {greatest}(coalesce({old}, {new}), coalesce({new}, {old}))")
        return f"ON CONFLICT ({self.conflict}) DO UPDATE SET {', '.join(changes)}"


_BUCKETS: Final = _Target(
    model=UsageBucket,
    identity=BUCKET_COLUMNS,
    conflict="start, coalesce(version_id, 0), coalesce(consumer_group_id, 0), gateway_id, model",
    added=SUM_FIELDS,
)
_HOURS: Final = replace(_BUCKETS, marks=("hourly",))
_VERSIONS: Final = _Target(
    model=VersionMetrics,
    identity=("version_id",),
    conflict="version_id",
    added=("total_requests",),
    latest=("last_used_at",),
)
_KEYS: Final = _Target(
    model=KeyMetrics,
    identity=("key_id",),
    conflict="key_id",
    added=("total_requests", "total_reported", "total_errors"),
    latest=("last_used_at",),
    zeros=("requests_24h", "reported_24h", "errors_24h"),
    marks=("stale",),
)


def _add_up(target: _Target, rows: Iterable[Sequence[object]]) -> None:
    more = (*(0 for _ in target.zeros), *(True for _ in target.marks))
    insert(target.model, target.columns, ((*row, *more) for row in rows), target.upsert())


def _bucket_rows(buckets: Mapping[BucketKey, Sequence[int]]) -> Iterator[tuple[object, ...]]:
    for bucket in sorted(buckets, key=_order):
        yield (datetime.fromtimestamp(bucket.start, UTC), *bucket[1:], *buckets[bucket])


def _key_rows(uses: Iterable[Use]) -> list[tuple[object, ...]]:
    keys: dict[UUID, Use] = {}
    for use in uses:
        key = keys.setdefault(use.key_id, Use(use.key_id))
        key.requests += use.requests
        key.reported += use.reported
        key.errors += use.errors
        if use.last_used_at is not None:
            key.used(use.last_used_at)
    return [(id_, k.requests, k.reported, k.errors, k.last_used_at) for id_, k in sorted(keys.items(), key=_first)]


def _order(bucket: BucketKey) -> tuple[object, ...]:
    return (bucket.start, bucket.version_id or 0, bucket.group_id or 0, bucket.gateway_id, bucket.model)


def _first[K, V](item: tuple[K, V]) -> K:
    return item[0]

"""Usage that gateways report: accepted is durable, and the same event counts once however often it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import batched
from typing import Final, NamedTuple
from uuid import UUID

from django.db import transaction

from audit import clock
from keys.models import KeyVersion
from usage.events import Identity, NewEvent, insert_new
from usage.models import Outcome
from usage.reports import BadEvent, Report, read_event
from usage.sums import BucketKey, Sums, add, bucket_start

IDS_A_QUERY: Final = 500


@dataclass(slots=True)
class Rejection:
    """Why one event was not taken. index: its place in the request, from 0."""

    index: int
    code: str
    detail: str


@dataclass(slots=True)
class Receipt:
    """What became of a request's events, all of it durable."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def ingest(*, gateway_id: UUID, events: Iterable[object]) -> Receipt:
    """Take what a gateway reports: every good event is written and counted once, a bad one costs no other.

    events: as `reports.read_body` returns them. A late event counts in the five minutes when it occurred. The group is
    the key's at this moment: the decision's is not kept for gateways that report.
    Errors: DatabaseError, and then nothing was taken; the sender keeps its batch and sends it again.
    """
    receipt, now = Receipt(), clock.now()
    reports = _read(events, now, receipt)
    if not reports:
        return receipt
    with transaction.atomic():
        known = _known_versions({report.key_id for _, report in reports})
        rows = _rows(reports, known, gateway_id, now, receipt)
        new = insert_new(rows.values())
        add(_sums(new, now))
    receipt.accepted = len(new)
    receipt.duplicates += len(rows) - len(new)
    receipt.rejected.sort(key=lambda rejection: rejection.index)
    return receipt


class _Known(NamedTuple):
    version_id: int
    group_id: int | None


def _read(events: Iterable[object], now: datetime, receipt: Receipt) -> list[tuple[int, Report]]:
    reports = []
    for index, event in enumerate(events):
        try:
            reports.append((index, read_event(event, now=now)))
        except BadEvent as bad:
            receipt.rejected.append(Rejection(index, bad.code, bad.detail))
    return reports


def _known_versions(key_ids: set[UUID]) -> dict[UUID, dict[int, _Known]]:
    """Return what is known of each key: its versions by number."""
    known: dict[UUID, dict[int, _Known]] = {}
    for some in batched(sorted(key_ids), IDS_A_QUERY):
        versions = KeyVersion.objects.filter(key__in=some).order_by()
        for key_id, number, *rest in versions.values_list("key_id", "number", "id", "key__consumer_group_id"):
            known.setdefault(key_id, {})[number] = _Known(*rest)
    return known


def _rows(
    reports: list[tuple[int, Report]],
    known: dict[UUID, dict[int, _Known]],
    gateway_id: UUID,
    now: datetime,
    receipt: Receipt,
) -> dict[Identity, NewEvent]:
    """Return one row for every identity: of the same event twice in one request, the first is taken."""
    rows: dict[Identity, NewEvent] = {}
    for index, report in reports:
        versions = known.get(report.key_id)
        version = versions.get(report.key_version) if versions else None
        if version is None:
            receipt.rejected.append(_unknown(index, report, key_known=versions is not None))
            continue
        row = _row(report, version, gateway_id, now)
        if row.identity in rows:
            receipt.duplicates += 1
        else:
            rows[row.identity] = row
    return rows


def _unknown(index: int, report: Report, *, key_known: bool) -> Rejection:
    if key_known:
        return Rejection(index, "unknown_version", f"This gateway key has no version {report.key_version}.")
    return Rejection(index, "unknown_key", "There is no gateway key with this id.")


def _row(report: Report, version: _Known, gateway_id: UUID, now: datetime) -> NewEvent:
    return NewEvent(
        gateway_id=gateway_id,
        event_id=report.id,
        occurred_at=report.occurred_at,
        received_at=now,
        outcome=Outcome.SERVED,
        key_id=report.key_id,
        version_id=version.version_id,
        consumer_group_id=version.group_id,
        decision_id=report.decision_id,
        status=report.status,
        latency_ms=report.latency_ms,
        method=report.method,
        path=report.path,
        client_ip=report.client_ip,
        provider=report.provider,
        model=report.model,
        operation=report.operation,
        input_tokens=report.input_tokens,
        output_tokens=report.output_tokens,
        cost=report.cost,
    )


def _sums(rows: Iterable[NewEvent], now: datetime) -> Sums:
    sums = Sums()
    for row in rows:
        if row.key_id is None:
            raise ValueError("what a gateway reports is of a key")
        start = bucket_start(row.occurred_at)
        sums.request(
            BucketKey(start, row.version_id, row.consumer_group_id, row.gateway_id, row.model),
            key_id=row.key_id,
            # A gateway's clock may run ahead; no key was used later than now.
            at=min(row.occurred_at, now),
            status=row.status,
            latency_ms=row.latency_ms,
            input_tokens=row.input_tokens or 0,
            output_tokens=row.output_tokens or 0,
        )
    return sums

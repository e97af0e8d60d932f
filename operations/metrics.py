"""The figures for Prometheus, put together when it asks: what the web processes have counted, what the database knows.

The database's part is asked for in the thread of /readyz, within its time: where it does not answer, those figures are
missing and `keeptrusts_ready` says why, and all others are there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, InterfaceError
from django.db.models import Min
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from audit.models import CheckpointCopy, UnsealedEntry
from gateways.decision import Reason
from gateways.telemetry import ALLOWED, BOUNDS
from operations import jobs
from operations.processes import Counted, counted
from operations.readiness import Checks, Readiness
from usage.models import PendingTallies
from usage.threads import drop_broken_connection, surviving_restart
from webhooks.models import Delivery, DeliveryState

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows. jobs: when each last succeeded; copies: when each copy of checkpoints last did.

    deliveries: notices that wait to be sent; due_since: since when the first of them should have been.
    """

    unsealed: int
    tallies: int
    deliveries: int
    due_since: datetime | None
    jobs: dict[str, datetime | None]
    copies: dict[str, datetime | None]
    read_at: float = field(default_factory=time.monotonic)


class Figures(Collector):
    """Everything, as Prometheus' client wants it. known: None where the database did not answer."""

    def __init__(self, processes: list[Counted], checks: Checks, known: Known | None) -> None:
        self._counts = [process.counts for process in processes]
        self._alive = [process.counts for process in processes if process.alive]
        self._checks = checks
        self._known = known

    def collect(self) -> Iterator[Metric]:
        yield from self._of_gateways()
        yield from self._of_processes()
        yield from self._of_checks()
        if self._known is not None:
            yield from _of_database(self._known)

    def _of_gateways(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "keeptrusts_decisions", "Answers of authorize, by reason; allowed: let through.", labels=["reason"]
        )
        for reason in (ALLOWED, *Reason):
            decisions.add_metric([reason], self._sum(lambda counts, reason=reason: counts["decisions"].get(reason, 0)))
        yield decisions
        yield self._latency()
        asked = self._sum(lambda counts: counts["asked"])
        nobodys = self._sum(lambda counts: counts["tokenless"])
        answered = self._sum(lambda counts: sum(counts["decisions"].values()))
        lookups = CounterMetricFamily(
            "keeptrusts_lookups", "What decisions took: hit, memory alone; miss, the database.", labels=["result"]
        )
        lookups.add_metric(["hit"], max(0, answered - asked - nobodys))
        lookups.add_metric(["miss"], asked)
        yield lookups
        events = CounterMetricFamily(
            "keeptrusts_usage_events", "Events that gateways reported, by what became of them.", labels=["result"]
        )
        for result in ("accepted", "duplicates", "rejected"):
            events.add_metric([result], self._sum(lambda counts, result=result: counts["events"][result]))
        yield events

    def _latency(self) -> HistogramMetricFamily:
        per_bound = [sum(counts) for counts in zip(*(counts["latency"] for counts in self._counts), strict=True)]
        bounds = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        up_to = [sum(per_bound[: place + 1]) for place in range(len(per_bound))]
        histogram = HistogramMetricFamily("keeptrusts_decision_seconds", "How long authorize took to decide.")
        histogram.add_metric(
            [], list(zip(bounds, up_to, strict=True)), sum_value=self._sum(lambda counts: counts["latency_sum"])
        )
        return histogram

    def _of_processes(self) -> Iterator[Metric]:
        leases = [counts["lease"] for counts in self._alive if counts["lease"] is not None]
        lease = GaugeMetricFamily(
            "keeptrusts_web_processes", "Web processes of this installation's host, by their lease.", labels=["lease"]
        )
        lease.add_metric(["held"], leases.count(True))
        lease.add_metric(["lost"], leases.count(False))
        lease.add_metric(["unused"], len(self._alive) - len(leases))
        yield lease
        held = sum(counts["held"] for counts in self._alive)
        yield GaugeMetricFamily("keeptrusts_held_key_versions", "Key versions held in memory.", value=held)
        resident = sum(counts["resident_bytes"] for counts in self._alive)
        yield GaugeMetricFamily("keeptrusts_web_resident_bytes", "Memory of the web processes.", value=resident)
        yield CounterMetricFamily(
            "keeptrusts_web_cpu_seconds", "CPU time of the web processes.", self._sum(lambda c: c["cpu_seconds"])
        )

    def _of_checks(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("keeptrusts_ready", "The checks of /readyz; 1: all is well.", labels=["check"])
        ages = GaugeMetricFamily(
            "keeptrusts_age_seconds", "Since the last beat and the last checkpoint.", labels=["of"]
        )
        for name, check in self._checks.items():
            ready.add_metric([name], int(check.is_well))
            if check.age is not None:
                ages.add_metric([name], check.age)
        yield ready
        yield ages

    def _sum(self, figure: Any) -> float:
        return float(sum(figure(counts) for counts in self._counts))


async def exposition(readiness: Readiness) -> bytes:
    """Return the figures as text."""
    checks = await readiness.checks()
    known = await readiness.from_database(read_known)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(await asyncio.to_thread(counted), checks, known))
    return generate_latest(registry)


def read_known() -> Known | None:
    """Return what the database knows, None where it cannot be asked. Errors: none."""
    try:
        return surviving_restart(_read_known)
    except (DatabaseError, InterfaceError):
        drop_broken_connection()
        return None


def _read_known() -> Known:
    waiting = Delivery.objects.filter(state=DeliveryState.PENDING)
    return Known(
        unsealed=UnsealedEntry.objects.count(),
        tallies=PendingTallies.objects.count(),
        deliveries=waiting.count(),
        due_since=waiting.aggregate(first=Min("next_attempt_at"))["first"],
        jobs=jobs.last_successes(),
        copies=dict(CheckpointCopy.objects.values_list("destination", "at")),
    )


def _of_database(known: Known) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "keeptrusts_unsealed_entries", "Audit entries that no checkpoint covers yet.", value=known.unsealed
    )
    yield GaugeMetricFamily(
        "keeptrusts_webhook_backlog", "Notices that wait to be sent, also for another try.", value=known.deliveries
    )
    yield GaugeMetricFamily(
        "keeptrusts_webhook_overdue_seconds",
        "How long the first of them should have been sent; 0: none should.",
        value=jobs.age(known.due_since) or 0,
    )
    yield GaugeMetricFamily("keeptrusts_pending_tallies", "Rows of usage to be added up.", value=known.tallies)
    yield _ages("keeptrusts_job_age_seconds", "Since the job last succeeded; +Inf: never.", "job", known.jobs.items())
    yield _ages(
        *("keeptrusts_checkpoint_copy_age_seconds", "Since checkpoints were last copied there.", "destination"),
        known.copies.items(),
    )


def _ages(name: str, what: str, label: str, moments: Iterable[tuple[str, datetime | None]]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, at in moments:
        age = jobs.age(at)
        family.add_metric([value], float("inf") if age is None else age)
    return family

"""A rotation while it runs: what each value of a key still serves, and who still sends an older one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from audit import clock
from keys.models import GatewayKey, KeyVersion
from keys.status import KeyStatus, VersionState
from usage.figures import SUMS
from usage.models import BUCKET_SPAN, Outcome, UsageBucket, UsageEvent
from usage.tallies import add_up

# So long without a request, and a value has gone quiet.
QUIET: Final = timedelta(minutes=15)
STEPS: Final = 12
SENDERS_SINCE: Final = timedelta(hours=24)
# Of so many requests, the newest, it is told where they came from.
MOST_EVENTS: Final = 1_000
MOST_SENDERS: Final = 10


@dataclass(slots=True)
class Sender:
    """Who has sent an older value. address: None where the gateway did not say."""

    address: str | None
    gateway: str
    requests: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Cell:
    """What one value served in one step. share: of the most in any step, 0..100."""

    requests: int
    share: int
    is_current: bool


def old_value_use(key: GatewayKey, now: datetime) -> dict[str, Any]:
    """Return when the older values in grace were last used, whether they have gone quiet, and who sent them."""
    add_up()
    return _use(key, _in_play(key, now), now)


def _use(key: GatewayKey, versions: list[KeyVersion], now: datetime) -> dict[str, Any]:
    old = [version for version in versions if version.valid_until is not None]
    uses = [at for version in old if (at := getattr(getattr(version, "metrics", None), "last_used_at", None))]
    last_used_at = max(uses, default=None)
    senders = _senders(old, now) if old else []
    return {
        "key": key,
        "old": old,
        "last_used_at": last_used_at,
        "is_quiet": last_used_at is None or now - last_used_at >= QUIET,
        "senders": senders[:MOST_SENDERS],
        "more_senders": max(0, len(senders) - MOST_SENDERS),
    }


def cutover(key: GatewayKey) -> dict[str, Any]:
    """Return what the page of a key shows of its rotation, while that runs; `is_running` says whether it does."""
    now = clock.now()
    if key.status_at(now) is not KeyStatus.ROTATING:
        return {"key": key, "is_running": False}
    add_up()
    versions = _in_play(key, now)
    return {
        **_use(key, versions, now),
        "is_running": True,
        "now": now,
        "versions": versions,
        "steps": _steps(versions, now),
    }


def _in_play(key: GatewayKey, now: datetime) -> list[KeyVersion]:
    """Return the current version and those in grace, the newest first."""
    versions = key.versions.select_related("metrics").order_by("-number")[:20]
    return [version for version in versions if version.state_at(now) is not VersionState.CLOSED]


def _steps(versions: list[KeyVersion], now: datetime) -> list[tuple[datetime, list[Cell]]]:
    """Return what each version served in each of the last steps of five minutes, the newest first."""
    # Where the bucket of this moment begins.
    last = now - (now - datetime(1970, 1, 1, tzinfo=UTC)) % BUCKET_SPAN
    starts = [last - BUCKET_SPAN * back for back in range(STEPS)]
    buckets = UsageBucket.objects.filter(version__in=[version.pk for version in versions], start__gte=starts[-1])
    rows = cast("Iterable[dict[str, Any]]", buckets.values("start", "version").annotate(sum=SUMS["requests"]))
    counts = {(row["start"], row["version"]): int(row["sum"]) for row in rows}
    most = max(counts.values(), default=0) or 1

    def cell(start: datetime, version: KeyVersion) -> Cell:
        requests = counts.get((start, version.pk), 0)
        # What is there is seen, however little.
        return Cell(requests, -(-requests * 100 // most), version.valid_until is None)

    return [(start, [cell(start, version) for version in versions]) for start in starts]


def _senders(old: list[KeyVersion], now: datetime) -> list[Sender]:
    """Return who sent the older values in the last day, of the requests that are kept, who did last first."""
    events = UsageEvent.objects.filter(
        version__in=[version.pk for version in old],
        outcome=Outcome.SERVED,
        occurred_at__gt=max(now - SENDERS_SINCE, min(version.created_at for version in old)),
    ).order_by("-occurred_at")
    senders: dict[tuple[str | None, str], Sender] = {}
    for address, gateway, at in events.values_list("client_ip", "gateway__name", "occurred_at")[:MOST_EVENTS]:
        sender = senders.setdefault((address, gateway), Sender(address, gateway, 0, at))
        sender.requests += 1
    return list(senders.values())

"""A month of traffic for the demo: a daily rhythm, weekends, errors, denials; counted as the data plane counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

from django.db import transaction

from gateways.models import Gateway
from keys.models import GatewayKey, KeyVersion
from usage.events import NewEvent, insert_new
from usage.models import Outcome
from usage.sums import BucketKey, Sums, add, bucket_start

SPAN: Final = timedelta(days=30)
HOUR: Final = timedelta(hours=1)
# Requests an hour at the busiest time of day, by what becomes of the key.
BUSY: Final = {
    "llm": 9.0,
    "llm-rotating": 9.0,
    "steady": 45.0,
    "rotating": 30.0,
    "lingering": 30.0,
    "endless": 12.0,
    "expiring": 8.0,
}
QUIET: Final = 6.0
# One language-model key has had trouble since so long ago: more of its requests fail, and the others take longer.
TROUBLE: Final = timedelta(hours=20)
TROUBLE_ERRORS: Final = 0.16
TROUBLE_SLOWER: Final = 2.2
MODELS: Final = (
    # provider, model, operation, weight
    ("openai", "gpt-4.1-mini", "chat", 5),
    ("anthropic", "claude-sonnet-4", "chat", 4),
    ("openai", "text-embedding-3-small", "embeddings", 3),
    ("mistral", "mistral-small", "chat", 1),
)
PATHS: Final = ("/v1/orders", "/v1/quotes", "/v1/customers/search", "/v1/stock", "/v1/images")


@dataclass(frozen=True, slots=True)
class _Life:
    """What traffic needs of one key. until: when it was revoked, disabled or expired, else None."""

    key: GatewayKey
    versions: list[KeyVersion]
    busy: float
    since: datetime
    until: datetime | None
    quiet_since: datetime | None
    language_model: bool
    stray: str  # why a request of it is refused now and then

    def version_at(self, at: datetime, draw: float) -> KeyVersion:
        """The version in use: the newest made by then, or for a while the one before, still in grace."""
        made = [version for version in self.versions if version.created_at <= at]
        current = made[0] if made else self.versions[-1]
        if len(made) > 1:
            previous = made[1]
            if previous.valid_until is not None and previous.valid_until > at:
                share = (at - current.created_at) / (previous.valid_until - current.created_at)
                if draw > share * 1.4:  # clients change over during the first hours of grace
                    return previous
        return current


class Traffic:
    """Pours requests into an installation, up to `now`; the same random source gives the same month."""

    def __init__(self, now: datetime, random: Random, gateways: Mapping[str, Gateway]) -> None:
        self.now = now
        self.random = random
        self.gateways = gateways
        self.sums = Sums()
        self.events: list[NewEvent] = []
        self.troubled: UUID | None = None

    def pour(self, fates: Mapping[UUID, str]) -> None:
        """Write the requests of the last 30 days of these keys, each by what becomes of it."""
        keys = GatewayKey.objects.filter(pk__in=fates).select_related("consumer_group").prefetch_related("versions")
        for key in keys.order_by("created_at", "name"):
            self._pour_key(self._life(key, fates[key.id]))
        for name in ("edge-frankfurt", "edge-virginia"):
            self._pour_unknown(self.gateways[name])
        with transaction.atomic():
            insert_new(self.events)
            add(self.sums)

    def _life(self, key: GatewayKey, fate: str) -> _Life:
        ends = [at for at in (key.revoked_at, key.disabled_at, key.expires_at) if at is not None and at <= self.now]
        group, quiet_since = key.consumer_group, None
        if fate == "never":
            quiet_since = key.created_at
        elif fate in {"unused", "idle"}:
            quiet_since = self.now - timedelta(days=self.random.uniform(32, 44))
        return _Life(
            key=key,
            versions=list(key.versions.all()),
            busy=BUSY.get(fate, QUIET) * self.random.uniform(0.4, 1.6),
            since=max(key.created_at, self.now - (SPAN * 2 if quiet_since else SPAN)),
            until=min(ends, default=None),
            quiet_since=quiet_since,
            language_model=fate.startswith("llm"),
            stray="network_not_allowed" if group is not None and group.allowed_networks else "group_mismatch",
        )

    def _pour_key(self, life: _Life) -> None:
        gateway = self.gateways["llm-gateway" if life.language_model else self._edge(life.key)]
        error_rate = self.random.choice((0.002, 0.006, 0.01, 0.04))
        address = f"10.20.4.{self.random.randint(10, 250)}"
        if self.troubled is None and life.language_model and life.until is None and life.busy > BUSY["llm"]:
            self.troubled = life.key.id
        at = life.since.replace(minute=0, second=0, microsecond=0)
        while at < self.now:
            for moment in self._moments(at, life.busy):
                if moment < life.since:
                    continue
                if life.quiet_since is not None and moment >= life.quiet_since:
                    return
                if life.until is not None and moment >= life.until:
                    # Whoever still holds the value of a dead key tries for a while.
                    if moment < life.until + timedelta(days=3) and self.random.random() < 0.15:
                        self._deny(life, gateway, moment, address, self._reason(life.key))
                elif self.random.random() < 0.004 and life.key.consumer_group and not life.language_model:
                    self._deny(life, gateway, moment, "198.51.100.23", life.stray)
                elif life.language_model:
                    self._report(life, gateway, moment, address, error_rate)
                else:
                    self._serve(life, gateway, moment, address)
            at += HOUR

    def _moments(self, hour: datetime, busy: float) -> list[datetime]:
        """The moments of this hour's requests: fewest before dawn, most in the afternoon, half at weekends."""
        rhythm = 0.18 + 0.82 * (1 - math.cos((hour.hour - 3) / 24 * 2 * math.pi)) / 2
        weekend = 0.45 if hour.weekday() >= 5 else 1.0
        expected = busy * rhythm * weekend
        number = max(0, round(self.random.gauss(expected, math.sqrt(expected))))
        moments = sorted(hour + timedelta(seconds=self.random.uniform(0, 3_600)) for _ in range(number))
        return [moment for moment in moments if moment < self.now]

    def _serve(self, life: _Life, gateway: Gateway, at: datetime, address: str) -> None:
        """A request counted when the gateway asked: no status is known."""
        version = life.version_at(at, self.random.random())
        self.sums.request(self._bucket(at, version, life, gateway), key_id=life.key.id, at=at)
        if at > self.now - timedelta(days=1):
            self.events.append(self._event(life, version, gateway, at, address, Outcome.SERVED))

    def _report(self, life: _Life, gateway: Gateway, at: datetime, address: str, error_rate: float) -> None:
        """A request that the gateway reported, with everything it knows; every one is kept as an event."""
        version = life.version_at(at, self.random.random())
        provider, model, operation, _ = self.random.choices(MODELS, [weight for *_, weight in MODELS])[0]
        in_trouble = life.key.id == self.troubled and at > self.now - TROUBLE
        failed = self.random.random() < (TROUBLE_ERRORS if in_trouble else error_rate)
        status = self.random.choice((429, 500, 503, 400)) if failed else 200
        latency = int(self.random.lognormvariate(6.3 if operation == "chat" else 4.2, 0.6))
        if in_trouble:
            latency = int(latency * TROUBLE_SLOWER)
        tokens_in = int(self.random.lognormvariate(6.0, 0.8))
        tokens_out = 0 if failed or operation != "chat" else int(self.random.lognormvariate(5.2, 0.7))
        bucket = BucketKey(bucket_start(at), version.pk, life.key.consumer_group_id, gateway.pk, model)
        self.sums.request(
            bucket,
            key_id=life.key.id,
            at=at,
            status=status,
            latency_ms=latency,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
        )
        event = self._event(life, version, gateway, at, address, Outcome.SERVED)
        self.events.append(
            event._replace(
                status=status,
                latency_ms=latency,
                method="POST",
                path="/v1/embeddings" if operation == "embeddings" else "/v1/chat/completions",
                provider=provider,
                model=model,
                operation=operation,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
            )
        )

    def _deny(self, life: _Life, gateway: Gateway, at: datetime, address: str, reason: str) -> None:
        version = life.version_at(at, 0.0)
        self.sums.denial(self._bucket(at, version, life, gateway))
        event = self._event(life, version, gateway, at, address, Outcome.DENIED)
        # What the gateway's route says: the key's own group, unless that is why it was refused.
        own = life.key.consumer_group
        stated = "partner-portal" if reason == "group_mismatch" else own.slug if own else ""
        self.events.append(event._replace(reason=reason, stated_group=stated))

    def _pour_unknown(self, gateway: Gateway) -> None:
        """Values that are nobody's: somebody guesses, or has mistyped; they are only counted."""
        for hours in range(int(SPAN / HOUR)):
            for _ in range(self.random.randint(0, 3)):
                at = self.now - HOUR * hours - timedelta(seconds=self.random.uniform(0, 3_600))
                self.sums.denial(BucketKey(bucket_start(at), None, None, gateway.pk))

    def _bucket(self, at: datetime, version: KeyVersion, life: _Life, gateway: Gateway) -> BucketKey:
        # Older sums stand in the first bucket of their hour: a chart of a month needs no more.
        start = bucket_start(at) if at > self.now - timedelta(days=2) else int(at.timestamp()) // 3_600 * 3_600
        return BucketKey(start, version.pk, life.key.consumer_group_id, gateway.pk)

    def _event(
        self, life: _Life, version: KeyVersion, gateway: Gateway, at: datetime, address: str, outcome: Outcome
    ) -> NewEvent:
        return NewEvent(
            gateway_id=gateway.pk,
            event_id=f"{self.random.getrandbits(128):032x}",
            occurred_at=at.astimezone(UTC),
            received_at=at.astimezone(UTC) + timedelta(milliseconds=self.random.randint(2, 900)),
            outcome=outcome,
            key_id=life.key.id,
            version_id=version.pk,
            consumer_group_id=life.key.consumer_group_id,
            decision_id=f"{self.random.getrandbits(128):032x}",
            client_ip=address,
        )

    def _edge(self, key: GatewayKey) -> str:
        return "edge-virginia" if key.id.int % 2 else "edge-frankfurt"

    def _reason(self, key: GatewayKey) -> str:
        if key.revoked_at is not None:
            return "key_revoked"
        return "key_disabled" if key.disabled_at is not None else "key_expired"

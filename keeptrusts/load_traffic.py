"""The traffic of a large installation: events in bursts, as applications call, and the exact sums of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import accumulate, count
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from gateways.models import Gateway, UsageSource
from keeptrusts.load_tables import fill, trust_references
from usage.compaction import KEPT_FINE
from usage.events import NewEvent
from usage.models import BUCKET_SPAN, HOUR, Outcome, UsageEvent
from usage.sums import BucketKey, Sums, add, add_hourly, bucket_start
from usage.tending import keep_since

DAYS: Final = 30
DAY: Final = timedelta(days=1)
# Of the keys that are used at all, so many in the last 30 days; the others' last use is longer ago.
LATELY: Final = 0.4
# Of each hour of the day, how much falls into it.
HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 13, 13, 12, 13, 14, 14, 13, 11, 8, 6, 5, 4, 3, 2)
MEAN_BURST: Final = 12
UNKNOWN_SHARE: Final = 0.005
DENIED_SHARE: Final = 0.02
STATUSES: Final = (*(200,) * 44, 201, 204, 400, 404, 429, 500)
MODELS: Final = ("", "", "gpt-4.1", "gpt-4.1-mini", "claude-sonnet-4", "text-embedding-3-small")
PATHS: Final = ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/models", "/v1/rerank")
_HOUR_SECONDS: Final = int(HOUR.total_seconds())


class User(NamedTuple):
    """A key that is used. versions: when each was made and its id, newest first.

    ends_at: from when on it is denied, for the reason `denied_as`; None = never.
    """

    key_id: UUID
    group_id: int | None
    created_at: datetime
    versions: list[tuple[datetime, int]]
    ends_at: datetime | None
    denied_as: str

    def version_at(self, at: datetime) -> int:
        return next((id_ for made, id_ in self.versions if made <= at), self.versions[-1][1])


@dataclass(slots=True)
class Traffic:
    """What is still to be written of it."""

    now: datetime
    random: Random
    gateways: Sequence[Gateway]
    users: Sequence[User]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    uses: dict[int, Any] = field(default_factory=dict)
    coarse: Sums = field(default_factory=Sums)
    fine: Sums = field(default_factory=Sums)

    def pour(self, events: int) -> None:
        """Write exactly so many events of the last 30 days, and the sums of these and of what was before."""
        trust_references()
        first = datetime.combine((self.now - (DAYS - 1) * DAY).date(), time(), UTC)
        # Of what was before there are sums and no events any more.
        keep_since(first)
        self.coarse.uses = self.fine.uses = self.uses
        lately = self._old_use(first)
        weights = list(accumulate(1 / (rank + 10) for rank in range(len(lately))))
        left, start = events if lately else 0, first
        while left and start < self.now:
            end = min(start + DAY, self.now)
            today = left if end == self.now else min(left, round(events * ((end - start) / (self.now - first))))
            fill(UsageEvent, NewEvent._fields, self._day(start, end, today, lately, weights))
            self._add_up()
            left, start = left - today, start + DAY
        self._add_up()
        add(Sums(uses=self.uses))

    def _add_up(self) -> None:
        for sums, write in ((self.fine, lambda sums: add(Sums(buckets=sums.buckets))), (self.coarse, _add_coarse)):
            write(sums)
            sums.buckets.clear()

    def _old_use(self, before: datetime) -> list[User]:
        """Count the last use of the keys that are not used lately; return those that are."""
        lately = []
        for user in self.users:
            if user.created_at >= before or self.random.random() < LATELY:
                lately.append(user)
                continue
            last = min(user.ends_at or before, before)
            at = user.created_at + (last - user.created_at) * self.random.uniform(0.1, 0.99)
            gateway = self.random.choice(self.gateways)
            bucket = self._bucket(at, user.version_at(at), user.group_id, gateway, "", hourly=True)
            status = None if gateway.usage_source == UsageSource.AUTHORIZE else 200
            self.coarse.request(bucket, key_id=user.key_id, at=at, status=status, count=self.random.randint(1, 5_000))
        self.random.shuffle(lately)
        return lately

    def _day(
        self, start: datetime, end: datetime, events: int, users: Sequence[User], weights: Sequence[float]
    ) -> Iterator[NewEvent]:
        """Yield exactly so many events between start and end, and count them."""
        left = events
        while left:
            (user,) = self.random.choices(users, cum_weights=weights)
            at = self._moment(start, end)
            if at <= user.created_at:
                continue
            size = min(left, 1 + int(self.random.expovariate(1 / MEAN_BURST)))
            left -= size
            yield from self._burst(user, at, end, size)

    def _moment(self, start: datetime, end: datetime) -> datetime:
        """A moment of the day with its rhythm."""
        while True:
            (hour,) = self.random.choices(range(24), HOURS)
            at = start + timedelta(hours=hour, seconds=self.random.random() * _HOUR_SECONDS)
            if at < end:
                return at

    def _burst(self, user: User, at: datetime, end: datetime, size: int) -> Iterator[NewEvent]:
        """Yield what one application asks for, all in one bucket's span."""
        random = self.random
        ends = datetime.fromtimestamp(bucket_start(at), UTC) + BUCKET_SPAN
        room = (min(ends, end) - at).total_seconds() / (size + 1)
        gateway = random.choice(self.gateways)
        hourly = at < self.now - KEPT_FINE - HOUR
        version, address = user.version_at(at), f"10.{random.randint(0, 40)}.{random.randint(0, 250)}.7"
        if random.random() < UNKNOWN_SHARE:
            unknown = self._bucket(at, None, None, gateway, "", hourly=hourly)
            denied: dict[str, Any] = {"reason": "key_unknown", "client_ip": address}
        elif (user.ends_at is not None and at >= user.ends_at) or random.random() < DENIED_SHARE:
            unknown = self._bucket(at, version, user.group_id, gateway, "", hourly=hourly)
            over = user.ends_at is not None and at >= user.ends_at
            denied = {
                "reason": user.denied_as if over else "network_not_allowed",
                "key_id": user.key_id,
                "version_id": version,
                "consumer_group_id": user.group_id,
                "client_ip": address,
            }
        else:
            yield from self._served(user, at, room, size, gateway, version, address, hourly=hourly)
            return
        sums = self.coarse if hourly else self.fine
        for number in range(size):
            sums.denial(unknown)
            moment, name = at + timedelta(seconds=room * number), f"{next(self.numbers):032x}"
            yield NewEvent(gateway.pk, name, moment, moment, Outcome.DENIED, decision_id=name, **denied)

    def _served(
        self,
        user: User,
        at: datetime,
        room: float,
        size: int,
        gateway: Gateway,
        version: int,
        address: str,
        *,
        hourly: bool,
    ) -> Iterator[NewEvent]:
        random, sums = self.random, self.coarse if hourly else self.fine
        reports = gateway.usage_source == UsageSource.REPORT
        model = random.choice(MODELS) if reports else ""
        path = random.choice(PATHS) if reports else ""
        bucket = self._bucket(at, version, user.group_id, gateway, model, hourly=hourly)
        for number in range(size):
            moment, name = at + timedelta(seconds=room * number), f"{next(self.numbers):032x}"
            status = random.choice(STATUSES) if reports else None
            latency = int(random.expovariate(1 / 300)) + 2 if reports else None
            tokens = (random.randint(10, 4_000), random.randint(1, 800)) if model else (None, None)
            sums.request(
                bucket,
                key_id=user.key_id,
                at=moment,
                status=status,
                latency_ms=latency,
                input_tokens=tokens[0] or 0,
                output_tokens=tokens[1] or 0,
            )
            yield NewEvent(
                gateway.pk,
                name,
                moment,
                moment,
                Outcome.SERVED,
                "",
                user.key_id,
                version,
                user.group_id,
                name,
                status,
                latency,
                "POST" if reports else "",
                path,
                address,
                None,
                "openai" if model else "",
                model,
                "chat" if model else "",
                *tokens,
            )

    @staticmethod
    def _bucket(
        at: datetime, version: int | None, group: int | None, gateway: Gateway, model: str, *, hourly: bool
    ) -> BucketKey:
        start = bucket_start(at)
        return BucketKey(start - start % _HOUR_SECONDS if hourly else start, version, group, gateway.pk, model)


def _add_coarse(sums: Sums) -> None:
    add_hourly(sums.buckets)

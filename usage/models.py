"""Requests that gateways served and requests that were denied: events, exact sums, and each key's figures.

The sums (UsageBucket) are the truth of how many; events are kept beside them so that a person sees what happened.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce

from keys.models import ConsumerGroup, GatewayKey, KeyVersion

BUCKET_SPAN: Final = timedelta(minutes=5)
HOUR: Final = timedelta(hours=1)
# Upper bounds of the latency histogram's classes, milliseconds; the last class is open.
LATENCY_BOUNDS: Final = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
LATENCY_FIELDS: Final = (*(f"latency_le_{bound}" for bound in LATENCY_BOUNDS), "latency_above")
# With fewer errors in 24 hours, nobody is told that a key's error rate rises.
ERRORS_THAT_COUNT: Final = 10
STATUS_FIELDS: Final = ("status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx")


def _count() -> models.PositiveBigIntegerField[int, int]:
    return models.PositiveBigIntegerField(default=0)


class Outcome(models.TextChoices):
    SERVED = "served", "Served"
    DENIED = "denied", "Denied"


class UsageEvent(models.Model):
    """One request. Its identity is the gateway, the gateway's id for it and when it occurred.

    On PostgreSQL the table is partitioned by the day of `occurred_at` (usage/partitions.py). Gateway and key need no
    index of their own: each leads another one.
    """

    id = models.BigAutoField(primary_key=True)
    # A model of the house above, by its name (design §10).
    gateway = models.ForeignKey(
        "gateways.Gateway", on_delete=models.PROTECT, related_name="usage_events", db_index=False
    )
    event_id = models.CharField(max_length=64)
    occurred_at = models.DateTimeField("time")
    received_at = models.DateTimeField()
    outcome = models.CharField(max_length=8, choices=Outcome)
    reason = models.CharField(max_length=32, blank=True)
    key = models.ForeignKey(
        GatewayKey,
        null=True,
        on_delete=models.PROTECT,
        related_name="usage_events",
        verbose_name="gateway key",
        db_index=False,
    )
    version = models.ForeignKey(KeyVersion, null=True, on_delete=models.PROTECT, related_name="usage_events")
    # The key's group when the request was made, whatever became of the key since.
    consumer_group = models.ForeignKey(ConsumerGroup, null=True, on_delete=models.PROTECT, related_name="usage_events")
    # Of a denial, the group that the gateway said the traffic was of, as it wrote it (usage/events.py says within what
    # bounds): "" = it said none; None = not kept, as of all that were written before there was this column.
    stated_group = models.CharField("group stated", max_length=80, null=True)  # noqa: DJ001  # the two differ
    decision_id = models.CharField(max_length=64, blank=True)
    status = models.PositiveSmallIntegerField(null=True)
    latency_ms = models.PositiveIntegerField("latency (ms)", null=True)
    method = models.CharField(max_length=16, blank=True)
    path = models.CharField(max_length=500, blank=True)
    client_ip = models.GenericIPAddressField("client address", null=True)
    provider = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=100, blank=True)
    operation = models.CharField(max_length=100, blank=True)
    input_tokens = models.PositiveBigIntegerField(null=True)
    output_tokens = models.PositiveBigIntegerField(null=True)
    cost = models.DecimalField(max_digits=18, decimal_places=9, null=True)

    class Meta:
        verbose_name = "usage event"
        ordering = ["-occurred_at", "-id"]
        constraints = [
            models.UniqueConstraint("gateway", "event_id", "occurred_at", name="usage_event_once"),
            models.CheckConstraint(
                condition=Q(status__isnull=True) | Q(status__gte=100, status__lte=599), name="usage_event_status"
            ),
            models.CheckConstraint(
                condition=Q(outcome=Outcome.SERVED, reason="", key__isnull=False, version__isnull=False)
                | (Q(outcome=Outcome.DENIED) & ~Q(reason="")),
                name="usage_event_served_or_denied",
            ),
        ]
        indexes = [
            models.Index(fields=["-occurred_at", "-id"], name="usage_event_newest"),
            models.Index(fields=["key", "-occurred_at", "-id"], name="usage_event_key"),
            models.Index(fields=["decision_id"], name="usage_event_decision", condition=~Q(decision_id="")),
            # What is rare among the events is found without going through all of them; most rows are in neither.
            models.Index(fields=["reason", "-occurred_at", "-id"], name="usage_event_denied", condition=~Q(reason="")),
            models.Index(
                fields=["status", "-occurred_at", "-id"],
                name="usage_event_unusual",
                condition=Q(status__lt=200) | Q(status__gte=300),
            ),
            # Denials of a key, of a group and from an address, the latest first: "Why was I refused?".
            models.Index(fields=["key", "-occurred_at", "-id"], name="usage_denied_key", condition=~Q(reason="")),
            models.Index(
                fields=["consumer_group", "-occurred_at", "-id"], name="usage_denied_group", condition=~Q(reason="")
            ),
            models.Index(
                fields=["client_ip", "-occurred_at", "-id"], name="usage_denied_from", condition=~Q(reason="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.outcome} {self.event_id}"


class UsageBucket(models.Model):
    """Exact sums over five minutes for one key version, group at the time, gateway and model.

    requests: events served. Of those, `status_…` count the ones whose status was reported; denials are apart.
    hourly: it stands for the whole hour from `start`; what comes late for the hour's other five minutes stands beside
    it until it is merged, too (usage/compaction.py).
    """

    start = models.DateTimeField()
    hourly = models.BooleanField(default=False, db_default=False)
    # Gateway and group need no index of their own: each leads another one.
    gateway = models.ForeignKey(
        "gateways.Gateway", on_delete=models.PROTECT, related_name="usage_buckets", db_index=False
    )
    version = models.ForeignKey(KeyVersion, null=True, on_delete=models.PROTECT, related_name="usage_buckets")
    consumer_group = models.ForeignKey(
        ConsumerGroup, null=True, on_delete=models.PROTECT, related_name="usage_buckets", db_index=False
    )
    model = models.CharField(max_length=100, blank=True)

    requests = _count()
    denials = _count()
    status_1xx = _count()
    status_2xx = _count()
    status_3xx = _count()
    status_4xx = _count()
    status_5xx = _count()
    input_tokens = _count()
    output_tokens = _count()
    latency_le_5 = _count()
    latency_le_10 = _count()
    latency_le_25 = _count()
    latency_le_50 = _count()
    latency_le_100 = _count()
    latency_le_250 = _count()
    latency_le_500 = _count()
    latency_le_1000 = _count()
    latency_le_2500 = _count()
    latency_le_5000 = _count()
    latency_le_10000 = _count()
    latency_above = _count()

    class Meta:
        constraints = [
            # Absent version and group count as 0, so that "none" is one bucket and not many (SQL's NULLs differ).
            models.UniqueConstraint(
                "start", Coalesce("version", 0), Coalesce("consumer_group", 0), "gateway", "model", name="bucket_once"
            ),
        ]
        indexes = [
            models.Index(fields=["version", "-start"], name="bucket_version"),
            models.Index(fields=["gateway", "-start"], name="bucket_gateway"),
            models.Index(fields=["consumer_group", "-start"], name="bucket_group"),
            models.Index(fields=["-start"], name="bucket_newest"),
            models.Index(fields=["start"], name="bucket_not_hourly", condition=Q(hourly=False)),
        ]

    def __str__(self) -> str:
        return f"bucket of {self.start:%Y-%m-%d %H:%M}"


class KeyMetrics(models.Model):
    """The figures of one key that lists show: totals kept with every count, the last 24 h by the roll-up."""

    key = models.OneToOneField(GatewayKey, on_delete=models.PROTECT, primary_key=True, related_name="metrics")
    total_requests = _count()
    # Of those, how many came with a status, and how many of these were errors (status >= 400).
    total_reported = _count()
    total_errors = _count()
    last_used_at = models.DateTimeField(null=True)
    requests_24h = _count()
    reported_24h = _count()
    errors_24h = _count()
    # Counted since the figures of the last 24 h were brought up to date.
    stale = models.BooleanField(default=True, db_default=True)
    # Start of the oldest bucket in these figures: when it has slid out, they are due although nothing was counted.
    oldest_24h = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["key"], name="key_metrics_stale", condition=Q(stale=True)),
            models.Index(fields=["oldest_24h"], name="key_metrics_oldest"),
            models.Index(fields=["last_used_at"], name="key_metrics_last_used"),
            models.Index(fields=["-requests_24h"], name="key_metrics_busiest"),
            models.Index(
                fields=["-errors_24h"], name="key_metrics_errors", condition=Q(errors_24h__gte=ERRORS_THAT_COUNT)
            ),
        ]

    def __str__(self) -> str:
        return f"metrics of {self.key_id}"

    @property
    def error_rate(self) -> float | None:
        """Errors among the requests whose status was reported, 0..1; None where none was."""
        return self.total_errors / self.total_reported if self.total_reported else None

    @property
    def error_rate_24h(self) -> float | None:
        return self.errors_24h / self.reported_24h if self.reported_24h else None


class VersionMetrics(models.Model):
    """The figures of one key version, so that a rotation shows who still uses the old value."""

    version = models.OneToOneField(KeyVersion, on_delete=models.PROTECT, primary_key=True, related_name="metrics")
    total_requests = _count()
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"metrics of {self.version_id}"


class KeptEvents(models.Model):
    """Since when every event is kept: only older ones were deleted. One row; none where nothing ever was."""

    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"every event since {self.since:%Y-%m-%d %H:%M}"


class UsageFlush(models.Model):
    """A set of sums that was added once. Written with them, so that an unknown commit can be tried again."""

    id = models.UUIDField(primary_key=True)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)


class PendingTallies(models.Model):
    """Requests that one flush has counted at one gateway in one bucket, and that are still to be added to the sums.

    tallies: as usage/tallies.py packs them.
    """

    start = models.DateTimeField()
    gateway = models.ForeignKey("gateways.Gateway", on_delete=models.PROTECT, related_name="+", db_index=False)
    tallies = models.BinaryField()

    def __str__(self) -> str:
        return f"tallies of {self.start:%Y-%m-%d %H:%M}"

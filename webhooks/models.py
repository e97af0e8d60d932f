"""Endpoints with their secrets, notices, and what became of each on its way.

Endpoints are written by webhooks/endpoints.py, notices by webhooks/queueing.py, deliveries also by
webhooks/delivering.py, and by nobody else.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from typing import Final

from django.db import models
from django.db.models import Q

from access.models import Member
from audit import clock
from keys.models import GatewayKey
from webhooks.happenings import NoticeType

LONGEST_URL: Final = 500


def new_notice_id() -> str:
    """Return an id as Standard Webhooks wants it: unique, and without a full stop."""
    return f"msg_{secrets.token_hex(16)}"


class WebhookEndpoint(models.Model):
    """Where notices are posted to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    url = models.CharField("address", max_length=LONGEST_URL)
    description = models.TextField(blank=True, max_length=2_000)
    # Names of NoticeType; none: all, also those that a later version adds.
    event_types = models.JSONField(default=list, blank=True)
    # Who made it, and is told when it is given up. Nobody where a job or command made it.
    owner = models.ForeignKey(
        Member, null=True, blank=True, on_delete=models.PROTECT, related_name="webhook_endpoints", editable=False
    )
    created_at = models.DateTimeField("created", default=clock.now, editable=False)
    disabled_at = models.DateTimeField("disabled", null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)
    # When it last accepted a notice, right to some seconds; and the first failure since.
    delivered_at = models.DateTimeField("last delivery", null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "webhook endpoint"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="webhook_name_given"),
            models.CheckConstraint(condition=~Q(url=""), name="webhook_url_given"),
            models.CheckConstraint(
                condition=Q(disabled_at__isnull=False) | Q(disabled_reason=""), name="webhook_disabling_whole"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def wants(self, notice_type: str) -> bool:
        return not self.event_types or notice_type in self.event_types


class EndpointSecret(models.Model):
    """A signing secret of an endpoint. Exactly one is current (no `valid_until`); older ones sign beside it for a time.

    sealed: the secret, encrypted (webhooks/signing.py): unlike a key's value it is needed again, to sign.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="secrets")
    sealed = models.TextField()
    hint = models.CharField(max_length=16)
    created_at = models.DateTimeField("created")
    valid_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(sealed=""), name="webhook_secret_given"),
            models.UniqueConstraint("endpoint", condition=Q(valid_until__isnull=True), name="webhook_secret_current"),
        ]

    def __str__(self) -> str:
        return self.hint

    def signs_at(self, at: datetime) -> bool:
        return self.valid_until is None or self.valid_until > at


class KeyNotices(models.Model):
    """How many notices there were of a key: what numbers them, so that a receiver sees their order."""

    key = models.OneToOneField(GatewayKey, on_delete=models.PROTECT, primary_key=True, related_name="+")
    last_sequence = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.last_sequence} of {self.key_id}"


class Notice(models.Model):
    """One happening that is told, under one id to whoever it is told.

    cause: what made it, once: a second notice of the same cause cannot be written. about_at, threshold: of which
    expiry, end of grace or last use a warning speaks, and how many days before. body: the JSON that is sent, by the
    letter: it is what is signed.
    """

    id = models.CharField(primary_key=True, max_length=40, default=new_notice_id, editable=False)
    type = models.CharField(max_length=64, choices=NoticeType)
    cause = models.CharField(max_length=200, unique=True)
    key = models.ForeignKey(GatewayKey, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    sequence = models.PositiveIntegerField(null=True)
    about_at = models.DateTimeField(null=True)
    threshold = models.PositiveSmallIntegerField(null=True)
    body = models.TextField()
    occurred_at = models.DateTimeField()

    class Meta:
        ordering = ["-occurred_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(key__isnull=True, sequence__isnull=True) | Q(key__isnull=False, sequence__isnull=False),
                name="notice_of_key_numbered",
            ),
            models.UniqueConstraint("key", "sequence", name="notice_number_once"),
        ]
        indexes = [
            models.Index(fields=["key", "type", "about_at"], name="notice_warning"),
            models.Index(fields=["occurred_at"], name="notice_occurred"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class DeliveryState(models.TextChoices):
    PENDING = "pending", "Waiting"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class Delivery(models.Model):
    """A notice on its way to one endpoint or, by mail, to one member. The row is the queue.

    tries: attempts since it was queued or last queued again, what the next pause follows from. handed_at: when a
    worker was last asked to send it; claimed_until: until when one that has begun keeps it to itself.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(
        WebhookEndpoint, null=True, on_delete=models.PROTECT, related_name="deliveries", db_index=False
    )
    recipient = models.ForeignKey(Member, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=16, choices=DeliveryState, default=DeliveryState.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField("queued")
    next_attempt_at = models.DateTimeField("next attempt", null=True)
    handed_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField("finished", null=True)
    # Why it is not tried again, where that is not the last attempt's error.
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(endpoint__isnull=False, recipient__isnull=True)
                | Q(endpoint__isnull=True, recipient__isnull=False),
                name="delivery_to_one",
            ),
            models.CheckConstraint(
                condition=Q(state=DeliveryState.PENDING, next_attempt_at__isnull=False, finished_at__isnull=True)
                | (~Q(state=DeliveryState.PENDING) & Q(next_attempt_at__isnull=True, finished_at__isnull=False)),
                name="delivery_pending_or_finished",
            ),
            models.UniqueConstraint("notice", "endpoint", name="delivery_once_an_endpoint"),
            models.UniqueConstraint("notice", "recipient", name="delivery_once_a_member"),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], name="delivery_due", condition=Q(state=DeliveryState.PENDING)),
            models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_endpoint_newest"),
        ]

    def __str__(self) -> str:
        return self.notice_id

    @property
    def last_attempt(self) -> Attempt | None:
        """What was tried last; of attempts that were fetched with the delivery."""
        return next(reversed(list(self.attempts.all())), None)


class Attempt(models.Model):
    """One try of a delivery. status: what an endpoint answered; error: why it counts as failed, "" where it arrived."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    duration_ms = models.PositiveIntegerField()
    error = models.CharField(max_length=300, blank=True)
    # The beginning of what was answered.
    answer = models.TextField(blank=True)

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.status or self.error}"


class SweepMark(models.Model):
    """How far a sweep has looked: what is older than `until` it has seen."""

    name = models.CharField(max_length=40, primary_key=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} until {self.until}"

"""Registered enforcement points and their credentials. Written by gateways/registry.py alone."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from access.tokens import DIGEST_BYTES
from audit import clock
from keys.models import ConsumerGroup

if TYPE_CHECKING:
    from keys.narrowing import Narrowing


class UsageSource(models.TextChoices):
    AUTHORIZE = "authorize", "Counted when asked"
    REPORT = "report", "Reported by the gateway"


class ClientAddress(models.TextChoices):
    HEADER = "header", "X-Keeptrusts-Client-IP"
    FORWARDED = "forwarded", "Right-most X-Forwarded-For"


class Gateway(models.Model):
    """A registered enforcement point: how its requests are counted and which groups it may serve."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    usage_source = models.CharField(
        max_length=16,
        choices=UsageSource,
        default=UsageSource.AUTHORIZE,
        help_text="Where its requests are counted: when it asks, or when it reports what it served. Never both.",
    )
    consumer_groups = models.ManyToManyField(
        ConsumerGroup, blank=True, related_name="gateways", help_text="The groups it may serve. None named: all."
    )
    require_group = models.BooleanField(
        default=False, help_text="Refuse scoped keys where the gateway does not say which group the traffic is of."
    )
    client_address = models.CharField(
        "client address from",
        max_length=16,
        choices=ClientAddress,
        default=ClientAddress.HEADER,
        help_text="Where the address of the client is read that allowed networks are held against.",
    )
    created_at = models.DateTimeField("created", default=clock.now, editable=False)

    # What the verb that returned this object made known of its change.
    narrowing: Narrowing | None = None

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="gateway_name_given"),
            models.CheckConstraint(condition=Q(usage_source__in=UsageSource.values), name="gateway_usage_source_known"),
            models.CheckConstraint(
                condition=Q(client_address__in=ClientAddress.values), name="gateway_client_address_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class GatewayToken(models.Model):
    """One credential of a gateway. Exactly one is current (no `valid_until`); older ones overlap or are over."""

    gateway = models.ForeignKey(Gateway, on_delete=models.PROTECT, related_name="tokens")
    digest = models.BinaryField(max_length=DIGEST_BYTES, unique=True)
    hint = models.CharField(max_length=16)
    created_at = models.DateTimeField("created")
    valid_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), DIGEST_BYTES), name="gateway_token_digest_length"),
            models.UniqueConstraint("gateway", condition=Q(valid_until__isnull=True), name="gateway_token_one_current"),
        ]

    def __str__(self) -> str:
        return self.hint

    def is_usable(self, at: datetime) -> bool:
        return self.valid_until is None or self.valid_until > at


class GatewayProcess(models.Model):
    """A process that answers gateways and may hold what it knows under a lease. Written by gateways/lease.py alone.

    leased_until: by the database's clock; until then it may decide by what it holds. applied: the snapshot of the
    database (PostgreSQL's `pg_snapshot`) whose invalidations it has applied.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    leased_until = models.DateTimeField()
    applied = models.TextField()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

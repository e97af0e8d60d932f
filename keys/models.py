"""Consumer groups with their policy, gateway keys, and the versions of each.

Rows are written by keys/lifecycle.py and keys/groups.py alone; the constraints here say what they promise.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from access.models import Member
from access.tokens import DIGEST_BYTES
from audit import clock
from keys.status import KeyStatus, VersionState, in_status, status_of

if TYPE_CHECKING:
    from keys.bulk import BulkResult
    from keys.narrowing import Narrowing

# A hundred years: long enough for any policy, short enough for every database's arithmetic.
MOST_DAYS = 36_500
MOST_GRACE_SECONDS = 365 * 24 * 60 * 60


def days_field(label: str, help_text: str) -> models.PositiveIntegerField[int | None, int | None]:
    """A span in whole days, or nothing."""
    return models.PositiveIntegerField(
        label,
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_DAYS)],
        help_text=help_text,
    )


class PolicyFields(models.Model):
    """The rules that a consumer group, or the installation, sets for keys. Which of both holds: keys/policy.py."""

    default_lifetime_days = days_field("default lifetime (days)", "The expiry proposed for a new key.")
    max_lifetime_days = days_field("maximum lifetime (days)", "No key may be set to expire later than this.")
    expiry_required = models.BooleanField("expiry is mandatory", default=False)
    max_grace_seconds = models.PositiveIntegerField(
        "longest grace (seconds)",
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_GRACE_SECONDS)],
        help_text="How long at most an old value stays accepted after a rotation. 0: rotation is immediate.",
    )
    allowed_networks = models.JSONField(
        default=list, blank=True, help_text="Networks (CIDR) that the group's traffic may come from. None: anywhere."
    )
    idle_days = days_field("revoke when unused for (days)", "Keys that nobody has used for so long are revoked.")
    # Since when that is the rule, or a shorter span than it was: nobody is revoked for it without a warning.
    idle_since = models.DateTimeField(null=True, blank=True, editable=False)

    # What the verb that returned this object made known of its change, and what became of the keys that it broke.
    narrowing: Narrowing | None = None
    alignment: list[BulkResult] | None = None

    class Meta:
        abstract = True


def policy_constraints(prefix: str) -> list[models.CheckConstraint]:
    """Return what the database holds of a policy's rules; prefix: of the constraints' names."""
    return [
        models.CheckConstraint(
            condition=Q(default_lifetime_days__isnull=True)
            | Q(max_lifetime_days__isnull=True)
            | Q(default_lifetime_days__lte=F("max_lifetime_days")),
            name=f"{prefix}_default_lifetime_within_maximum",
        ),
        *(
            models.CheckConstraint(
                condition=Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__gte": 1, f"{field}__lte": MOST_DAYS}),
                name=f"{prefix}_{field}_in_range",
            )
            for field in ("default_lifetime_days", "max_lifetime_days", "idle_days")
        ),
    ]


class ConsumerGroup(PolicyFields):
    """The team or application family that keys are scoped to, and the policy for them."""

    name = models.CharField(max_length=100, unique=True)
    slug = models.SlugField(
        max_length=60, unique=True, help_text="What gateways call it; fixed once the group is created."
    )
    description = models.TextField(blank=True, max_length=2_000)
    managers = models.ManyToManyField(
        Member,
        blank=True,
        related_name="managed_groups",
        help_text="Only these Managers (and Admins) manage the group's keys. None named: every Manager does.",
    )
    created_at = models.DateTimeField("created", default=clock.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="group_name_given"),
            models.CheckConstraint(condition=~Q(slug=""), name="group_slug_given"),
            *policy_constraints("group"),
        ]

    def __str__(self) -> str:
        return self.name


class InstallationPolicy(PolicyFields):
    """The policy for every key of the installation, in a group or not. One row; written by keys/installation.py."""

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="installation_policy_once"),
            *policy_constraints("installation"),
        ]

    def __str__(self) -> str:
        return "The installation"


# The statuses of a key that some value is accepted of.
USABLE: Final = frozenset({KeyStatus.ACTIVE, KeyStatus.ROTATING})


class GatewayKeyQuerySet(models.QuerySet["GatewayKey"]):
    def in_status(self, *statuses: KeyStatus, at: datetime | None = None) -> GatewayKeyQuerySet:
        """Narrow to keys that are in one of `statuses`."""
        at = at or clock.now()
        asked, condition = set(statuses), Q(pk__in=[])
        if asked >= USABLE:
            # Together they are one question, and an index has its answer.
            asked, condition = asked - USABLE, _usable(at)
        for status in asked:
            condition |= in_status(status, at)
        return self.filter(condition)

    def usable(self, at: datetime | None = None) -> GatewayKeyQuerySet:
        """Narrow to keys that some value of is accepted for."""
        return self.filter(_usable(at or clock.now()))

    def expiring_within(self, days: int, at: datetime | None = None) -> GatewayKeyQuerySet:
        """Narrow to keys that will expire in the next `days` days; expired and revoked ones are past that."""
        at = at or clock.now()
        soon = at + timedelta(days=min(days, MOST_DAYS))
        return self.filter(revoked_at__isnull=True, expires_at__gt=at, expires_at__lte=soon)

    def unused_for(self, days: int, at: datetime | None = None) -> GatewayKeyQuerySet:
        """Narrow to keys, in whatever status, that are older than `days` days and were not used in that time."""
        return self.filter(unused_since((at or clock.now()) - timedelta(days=min(days, MOST_DAYS))))

    def unscoped(self) -> GatewayKeyQuerySet:
        """Narrow to keys that are accepted for traffic of every group."""
        return self.filter(consumer_group__isnull=True)

    def owner_left(self) -> GatewayKeyQuerySet:
        """Narrow to keys that nobody answers for: their owner was taken out, or they never had one."""
        return self.filter(without_owner())

    def with_metrics(self) -> GatewayKeyQuerySet:
        """Fetch each key's figures with it: `getattr(key, "metrics", None)`, None where nothing was counted yet."""
        return self.select_related("metrics")


def _usable(at: datetime) -> Q:
    """Return the condition for USABLE keys, without asking which they are: as the index of these has it."""
    lives = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
    return lives & Q(revoked_at__isnull=True, disabled_at__isnull=True)


def unused_since(since: datetime) -> Q:
    """Return the condition for keys, in whatever status, that are older than `since` and were not used after it."""
    return Q(~Exists(_metrics().filter(last_used_at__gte=since)), created_at__lt=since)


def never_used() -> Q:
    """Return the condition for keys that no gateway has seen."""
    return Q(~Exists(_metrics().filter(last_used_at__isnull=False)))


def idle_for_a_day() -> Q:
    """Return the condition for keys that no request of the last 24 hours was counted of."""
    return Q(~Exists(_metrics().filter(requests_24h__gt=0)))


def without_owner() -> Q:
    """Return the condition for keys that nobody answers for."""
    return Q(owner__isnull=True) | Q(owner__in=Member.objects.filter(is_active=False))


def _metrics() -> models.QuerySet[models.Model]:
    """Return the figures of the key of the outer query: a model of the usage house, reached by its name (design §10).

    Asked for by EXISTS and not by a join: of how many rows a join leaves without a partner, PostgreSQL has no idea.
    """
    metrics = GatewayKey._meta.get_field("metrics").related_model
    return metrics._default_manager.filter(key=OuterRef("pk"))


class GatewayKey(models.Model):
    """The named record that an application is given. Its id is public and stable through rotations."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, max_length=2_000)
    consumer_group = models.ForeignKey(
        ConsumerGroup, null=True, blank=True, on_delete=models.PROTECT, related_name="gateway_keys"
    )
    allowed_networks = models.JSONField(default=list, blank=True)
    # The hint of the current version, kept here so that lists need no join.
    hint = models.CharField(max_length=16)
    created_at = models.DateTimeField("created")
    created_by = models.ForeignKey(Member, null=True, on_delete=models.PROTECT, related_name="+")
    # Who answers for it, and is asked before it is revoked; nobody where the console's jobs or commands made it.
    owner = models.ForeignKey(
        Member, null=True, blank=True, on_delete=models.PROTECT, related_name="owned_keys", db_index=False
    )
    expires_at = models.DateTimeField("expires", null=True, blank=True)
    # The span chosen when the expiry was last set; rotation renews by it.
    lifetime = models.DurationField(null=True, blank=True)
    disabled_at = models.DateTimeField("disabled", null=True, blank=True)
    revoked_at = models.DateTimeField("revoked", null=True, blank=True)
    revoked_by = models.ForeignKey(Member, null=True, on_delete=models.PROTECT, related_name="+")
    revoke_reason = models.CharField(max_length=500, blank=True)
    # When the last version in grace will be refused; what `rotating` is derived from.
    grace_until = models.DateTimeField(null=True, blank=True)
    # What its idleness is counted from at the earliest: when it was last enabled, rotated or moved; None = created.
    idle_from = models.DateTimeField(null=True, blank=True)
    # What the jobs have recorded of what time decided. No decision ever looks at it.
    expiry_recorded_at = models.DateTimeField(null=True, blank=True)

    # What the verb that returned this object made known of its change.
    narrowing: Narrowing | None = None

    objects: ClassVar[GatewayKeyQuerySet] = GatewayKeyQuerySet.as_manager()  # type: ignore[assignment]  # its manager

    class Meta:
        verbose_name = "gateway key"
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="key_name_given"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="key_expiry_after_creation"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True, lifetime__isnull=True)
                | Q(expires_at__isnull=False, lifetime__isnull=False),
                name="key_lifetime_with_expiry",
            ),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=False) | Q(revoked_by__isnull=True, revoke_reason=""),
                name="key_revocation_whole",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "id"], name="key_newest"),
            models.Index(fields=["name", "id"], name="key_name"),
            models.Index(fields=["hint", "id"], name="key_hint"),
            # What begins like this: another order than the one that people read.
            models.Index(fields=["hint"], name="key_hint_start", opclasses=["varchar_pattern_ops"]),
            models.Index(fields=["consumer_group", "-created_at", "id"], name="key_group_newest"),
            models.Index(fields=["owner", "-created_at", "id"], name="key_owner_newest"),
            models.Index(fields=["expires_at"], name="key_expires"),
            models.Index(
                fields=["expires_at"],
                name="key_expiry_due",
                condition=Q(expires_at__isnull=False, expiry_recorded_at__isnull=True, revoked_at__isnull=True),
            ),
            # To count those that are accepted, without a look at the table.
            models.Index(
                fields=["expires_at"],
                name="key_usable",
                condition=Q(revoked_at__isnull=True, disabled_at__isnull=True),
            ),
            models.Index(fields=["grace_until"], name="key_grace", condition=Q(grace_until__isnull=False)),
            models.Index(fields=["revoked_at"], name="key_revoked", condition=Q(revoked_at__isnull=False)),
            models.Index(fields=["disabled_at"], name="key_disabled", condition=Q(disabled_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.name

    def status_at(self, at: datetime) -> KeyStatus:
        return status_of(
            revoked_at=self.revoked_at,
            expires_at=self.expires_at,
            disabled_at=self.disabled_at,
            grace_until=self.grace_until,
            at=at,
        )

    @property
    def status(self) -> KeyStatus:
        return self.status_at(clock.now())


class KeyVersion(models.Model):
    """One secret of a key. Exactly one is current (no `valid_until`); older ones are in grace or closed."""

    key = models.ForeignKey(GatewayKey, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    digest = models.BinaryField(max_length=DIGEST_BYTES, unique=True)
    hint = models.CharField(max_length=16)
    created_at = models.DateTimeField("created")
    valid_until = models.DateTimeField(null=True, blank=True)
    # When a verb ended it, or a job recorded that time had. Refused from then on, whatever a host takes for the time.
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "key version"
        ordering = ["-number"]
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), DIGEST_BYTES), name="version_digest_length"),
            models.CheckConstraint(condition=Q(number__gte=1), name="version_numbered_from_one"),
            models.UniqueConstraint("key", "number", name="version_number_once"),
            models.UniqueConstraint("key", condition=Q(valid_until__isnull=True), name="version_one_current"),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True) | Q(valid_until__isnull=False), name="version_current_not_closed"
            ),
        ]
        indexes = [
            models.Index(
                fields=["valid_until"],
                name="version_grace_due",
                condition=Q(valid_until__isnull=False, closed_at__isnull=True),
            ),
            models.Index(fields=["hint"], name="version_hint_start", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"version {self.number}"

    def state_at(self, at: datetime) -> VersionState:
        if self.valid_until is None:
            return VersionState.CURRENT
        return VersionState.GRACE if self.valid_until > at else VersionState.CLOSED


class Invalidation(models.Model):
    """A change after which nobody may decide by what they held of an object before. Written by keys/narrowing.py.

    transaction: PostgreSQL's id of the one that wrote it: commits come out of the order of ids, and by this a reader
    knows which rows it cannot have seen yet.
    """

    transaction = models.BigIntegerField(db_index=True)
    kind = models.CharField(max_length=16)
    object_id = models.CharField(max_length=36)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}"

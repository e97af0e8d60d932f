"""Members, their access keys, and what they have already asked for once."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser, UserManager
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from access import rules
from access.limits import NO_LIMITS, Limits
from access.rules import Role
from access.session_store import SessionStore
from access.tokens import DIGEST_BYTES
from audit import clock


class MemberQuerySet(models.QuerySet["Member"]):
    def active(self) -> MemberQuerySet:
        return self.filter(is_active=True)


class MemberManager(UserManager["Member"].from_queryset(MemberQuerySet)):  # type: ignore[misc]  # dynamic base
    pass


class NoticeMail(models.TextChoices):
    IMPORTANT = "important", "What needs attention"
    ALL = "all", "Everything"
    NONE = "none", "Nothing"


class Member(AbstractBaseUser):
    """A person (or a machine with a name) in exactly one role. The role decides alone: there is no superuser."""

    username = models.CharField(
        max_length=150,
        unique=True,
        validators=[ASCIIUsernameValidator()],
        help_text="Letters, digits and @ . + - _",
    )
    name = models.CharField("full name", max_length=150, blank=True)
    email = models.EmailField("email address", blank=True)
    role = models.CharField(max_length=16, choices=Role)
    is_active = models.BooleanField(
        "active", default=True, help_text="Taken out: sessions and access keys end at once; what they did stays."
    )
    # In which times are shown to them; an IANA name. Files, the API and jobs speak UTC.
    time_zone = models.CharField(max_length=64, default="UTC", db_default="UTC", editable=False)
    # Which notices are mailed to them about what they answer for (webhooks/happenings.py).
    notice_mail = models.CharField(
        max_length=16,
        choices=NoticeMail.choices,
        default=NoticeMail.IMPORTANT.value,
        db_default="important",
        editable=False,
    )
    date_joined = models.DateTimeField("joined", editable=False)

    # What the access key that they came with is held to; set for one request (access/access_keys.py).
    limits: Limits = NO_LIMITS

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["role"]

    objects: ClassVar[MemberManager] = MemberManager()

    class Meta:
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="member_role_known"),
            models.CheckConstraint(condition=~Q(username=""), name="member_username_given"),
            models.CheckConstraint(
                condition=Q(notice_mail__in=["important", "all", "none"]), name="member_notice_mail_known"
            ),
        ]

    def __str__(self) -> str:
        return self.username

    def get_full_name(self) -> str:
        return self.name or self.username

    def get_short_name(self) -> str:
        return self.username

    @property
    def is_staff(self) -> bool:
        """Every member may open the console; what they see there, their role decides."""
        return self.is_active

    def may(self, permission: str, obj: object | None = None) -> bool:
        """Say whether the rule book lets this member do it (access/rules.py)."""
        return rules.allows(self, permission, obj)

    def visible[M: models.Model](self, queryset: models.QuerySet[M]) -> models.QuerySet[M]:
        """Return the rows of `queryset` that this member sees."""
        return rules.visible(self, queryset)

    @property
    def has_joined(self) -> bool:
        """Whether they have ever had a way to sign in: a password, or an account at the OpenID Connect provider."""
        return self.has_usable_password() or bool(self.external_accounts.all())

    # Django's own questions, answered from the same rule book.
    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        return self.may(perm, obj)

    def has_perms(self, perm_list: list[str], obj: object | None = None) -> bool:
        return all(self.may(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return any(name.startswith(f"{app_label}.") and self.may(name) for name in rules.PERMISSIONS)


class AccessKeyQuerySet(models.QuerySet["AccessKey"]):
    def in_status(self, status: str, at: datetime | None = None) -> AccessKeyQuerySet:
        """Narrow to what is revoked, expired or active."""
        expired = Q(expires_at__isnull=False, expires_at__lte=at or clock.now())
        match status:
            case "revoked":
                return self.filter(revoked_at__isnull=False)
            case "expired":
                return self.filter(expired, revoked_at__isnull=True)
            case _:
                return self.filter(~expired, revoked_at__isnull=True)


class AccessKey(models.Model):
    """A member's bearer credential for the management API. Never accepted by a gateway."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(Member, on_delete=models.PROTECT, related_name="access_keys")
    name = models.CharField(max_length=100)
    digest = models.BinaryField(max_length=DIGEST_BYTES, unique=True)
    hint = models.CharField(max_length=16)
    created_at = models.DateTimeField("created")
    expires_at = models.DateTimeField("expires", null=True, blank=True)
    last_used_at = models.DateTimeField("last used", null=True, blank=True)
    revoked_at = models.DateTimeField("revoked", null=True, blank=True)
    read_only = models.BooleanField("read-only", default=False, db_default=False)
    # Said apart from which: a key of chosen groups must never become one of all because a row is gone.
    limited_to_groups = models.BooleanField(default=False, db_default=False)
    # A model of the house above, by its name (design §10).
    consumer_groups = models.ManyToManyField("keys.ConsumerGroup", blank=True, related_name="access_keys")

    objects = AccessKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), DIGEST_BYTES), name="access_key_digest_length"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="access_key_expiry_after_creation"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="access_key_name_given"),
        ]
        indexes = [models.Index(fields=["owner", "-created_at"], name="access_key_owner")]

    def __str__(self) -> str:
        return self.name

    def group_slugs(self) -> list[str] | None:
        """Return the groups whose keys alone it sees and touches; None: as its owner's role says."""
        if not self.limited_to_groups:
            return None
        return sorted(str(group.slug) for group in self.consumer_groups.all())

    def status(self, at: datetime | None = None) -> str:
        """Return revoked, expired or active."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= (at or clock.now()):
            return "expired"
        return "active"


class Invitation(models.Model):
    """A link that was given out once and lets a new member choose their password. Of a member one is open at most."""

    LIFETIME: ClassVar[timedelta] = timedelta(days=7)

    member = models.ForeignKey(Member, on_delete=models.PROTECT, related_name="invitations")
    digest = models.BinaryField(max_length=DIGEST_BYTES, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    # Withdrawn, or replaced by another link.
    withdrawn_at = models.DateTimeField(null=True)
    # Those that a Manager is to manage once they have joined. A model of the house above, by its name (design §10).
    groups = models.ManyToManyField("keys.ConsumerGroup", blank=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), DIGEST_BYTES), name="invitation_digest_length"),
            models.CheckConstraint(
                condition=Q(accepted_at__isnull=True) | Q(withdrawn_at__isnull=True), name="invitation_ended_once"
            ),
            models.UniqueConstraint(
                fields=["member"],
                condition=Q(accepted_at__isnull=True, withdrawn_at__isnull=True),
                name="invitation_one_open",
            ),
        ]

    def __str__(self) -> str:
        return f"invitation of {self.member}"


class ExternalAccount(models.Model):
    """Whom an OpenID Connect provider means by a member. Issuer and subject together never mean anybody else."""

    member = models.ForeignKey(Member, on_delete=models.PROTECT, related_name="external_accounts")
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="external_account_once")]

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


class MemberSession(AbstractBaseSession):
    """A session of the console, with what its member is shown of it. Of who has not signed in yet, it has no member."""

    member = models.ForeignKey(Member, on_delete=models.PROTECT, null=True, related_name="sessions")
    # How they signed in, in the words of the audit log.
    method = models.CharField(max_length=100, blank=True)
    device = models.CharField(max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True)
    signed_in_at = models.DateTimeField(null=True)
    last_seen_at = models.DateTimeField(db_index=True)

    @classmethod
    def get_session_store_class(cls) -> type[SessionStore]:
        return SessionStore

    def __str__(self) -> str:
        # Never the session key, which is a secret.
        return f"session of {self.member_id}"


class IdempotencyRecord(models.Model):
    """A change that was made once under an Idempotency-Key, and what was answered."""

    member = models.ForeignKey(Member, on_delete=models.CASCADE, related_name="+")
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=300)
    key = models.CharField(max_length=255)
    body_hash = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    # The answer as it was, or, where it held a secret, what may be said of it again.
    body = models.JSONField(null=True)
    held_secret = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint("member", "method", "path", "key", name="idempotency_key_once"),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_created_at")]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

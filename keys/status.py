"""The status of a key and the state of a version: derived from times, never stored (design §2)."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q


class KeyStatus(models.TextChoices):
    """In order of precedence: the first that applies is the key's status."""

    REVOKED = "revoked", "Revoked"
    EXPIRED = "expired", "Expired"
    DISABLED = "disabled", "Disabled"
    ROTATING = "rotating", "Rotating"
    ACTIVE = "active", "Active"


class VersionState(models.TextChoices):
    CURRENT = "current", "Current"
    GRACE = "grace", "In grace"
    CLOSED = "closed", "Closed"


def status_of(
    *,
    revoked_at: datetime | None,
    expires_at: datetime | None,
    disabled_at: datetime | None,
    grace_until: datetime | None,
    at: datetime,
) -> KeyStatus:
    """Return the status at one instant. The first instant of expiry is already expired."""
    if revoked_at is not None:
        return KeyStatus.REVOKED
    if expires_at is not None and expires_at <= at:
        return KeyStatus.EXPIRED
    if disabled_at is not None:
        return KeyStatus.DISABLED
    if grace_until is not None and grace_until > at:
        return KeyStatus.ROTATING
    return KeyStatus.ACTIVE


def in_status(status: KeyStatus, at: datetime) -> Q:
    """Return the condition on gateway keys that says the same as `status_of`."""
    unrevoked = Q(revoked_at__isnull=True)
    unexpired = unrevoked & (Q(expires_at__isnull=True) | Q(expires_at__gt=at))
    enabled = unexpired & Q(disabled_at__isnull=True)
    match status:
        case KeyStatus.REVOKED:
            return Q(revoked_at__isnull=False)
        case KeyStatus.EXPIRED:
            return unrevoked & Q(expires_at__lte=at)
        case KeyStatus.DISABLED:
            return unexpired & Q(disabled_at__isnull=False)
        case KeyStatus.ROTATING:
            return enabled & Q(grace_until__gt=at)
        case KeyStatus.ACTIVE:
            return enabled & (Q(grace_until__isnull=True) | Q(grace_until__lte=at))

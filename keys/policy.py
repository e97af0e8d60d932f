"""What a consumer group's policy says of a key's expiry and grace; the same for form, API, bulk and jobs."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError

from audit.moments import duration
from keys.models import MOST_DAYS, MOST_GRACE_SECONDS, ConsumerGroup, GatewayKey


def default_expiry(group: ConsumerGroup | None, now: datetime) -> datetime | None:
    """Return the expiry of a new key for which none was chosen; None = it does not expire.

    Without a default the longest that the policy allows is taken. Errors: ValidationError where the policy demands
    an expiry and proposes none.
    """
    if group is None:
        return None
    days = group.default_lifetime_days or group.max_lifetime_days
    if days is not None:
        return now + timedelta(days=days)
    check_expiry(None, group, now)
    return None


def check_expiry(expires_at: datetime | None, group: ConsumerGroup | None, now: datetime) -> None:
    """Return if a key of `group` may be set now to expire at `expires_at`; else ValidationError at that field."""
    if expires_at is None:
        if group is not None and (group.expiry_required or group.max_lifetime_days is not None):
            message = f"The policy of {group.name} requires an expiry."
            raise ValidationError({"expires_at": ValidationError(message, code="expiry_required")})
        return
    if expires_at <= now:
        raise ValidationError({"expires_at": ValidationError("This lies in the past.", code="in_the_past")})
    most = group.max_lifetime_days if group is not None and group.max_lifetime_days is not None else MOST_DAYS
    if expires_at > now + timedelta(days=most):
        rule = f"The policy of {group.name} allows at most" if group is not None and most != MOST_DAYS else "At most"
        message = f"{rule} {most:,} days from now."
        raise ValidationError({"expires_at": ValidationError(message, code="lifetime_exceeded")})


def renewed_expiry(lifetime: timedelta, group: ConsumerGroup | None, now: datetime) -> datetime:
    """Return the expiry that a rotation gives: the key's lifetime from now, cut to what the policy allows today."""
    if group is not None and group.max_lifetime_days is not None:
        lifetime = min(lifetime, timedelta(days=group.max_lifetime_days))
    return now + lifetime


def longest_grace(group: ConsumerGroup | None) -> timedelta:
    """Return the ceiling of a grace period for keys of `group`."""
    seconds = MOST_GRACE_SECONDS if group is None or group.max_grace_seconds is None else group.max_grace_seconds
    return timedelta(seconds=seconds)


def chosen_grace(grace: timedelta | None, group: ConsumerGroup | None) -> timedelta:
    """Return the grace of a rotation: the one asked for, or the default within the group's ceiling.

    Errors: ValidationError at `grace_seconds` for a negative one and one above the ceiling.
    """
    ceiling = longest_grace(group)
    if grace is None:
        return min(settings.KEEPTRUSTS_DEFAULT_GRACE, ceiling)
    if grace < timedelta(0):
        raise ValidationError({"grace_seconds": ValidationError("This may not be negative.", code="min_value")})
    if grace > ceiling:
        seconds = int(ceiling.total_seconds())
        rule = f"The policy of {group.name} allows at most" if group is not None else "At most"
        message = f"{rule} {seconds:,} seconds."
        raise ValidationError({"grace_seconds": ValidationError(message, code="grace_exceeded")})
    return grace


def extended_grace(key: GatewayKey, until: datetime | None, grace: timedelta | None, now: datetime) -> datetime:
    """Return when the running grace of `key` is to end: `until`, or `grace` from now, cut to the key's expiry.

    Errors: ValidationError where not exactly one of both is given, for an end above the ceiling, counted from now, and
    for one that is not later than the end that stands.
    """
    if until is not None and grace is None:
        field, end, ceiling = "until", until, longest_grace(key.consumer_group)
        if until > now and until - now > ceiling:
            group = key.consumer_group
            rule = f"The policy of {group.name} allows at most" if group is not None else "At most"
            message = f"{rule} {int(ceiling.total_seconds()):,} seconds from now."
            raise ValidationError({field: ValidationError(message, code="grace_exceeded")})
    elif grace is not None and until is None:
        field, end = "grace_seconds", now + chosen_grace(grace, key.consumer_group)
    else:
        raise ValidationError({"until": ValidationError("Say until when, or for how long.", code="required")})
    if key.expires_at is not None:
        end = min(end, key.expires_at)
    if key.grace_until is not None and end <= key.grace_until:
        message = "The old value is accepted for as long as that already. Choose a later end."
        if end == key.expires_at:
            message = "The old value is accepted until the key expires already. Set a later expiry first."
        raise ValidationError({field: ValidationError(message, code="not_later")})
    return end


def in_words(group: ConsumerGroup) -> list[str]:
    """Return the whole policy of `group`, a sentence for each rule; one that says so where there is none."""
    rules = []
    if group.max_lifetime_days is not None:
        rules.append(f"A key lives for at most {_days(group.max_lifetime_days)}; an expiry is mandatory.")
    elif group.expiry_required:
        rules.append("An expiry is mandatory.")
    if group.default_lifetime_days is not None:
        rules.append(f"Proposed: {_days(group.default_lifetime_days)}.")
    if group.max_grace_seconds == 0:
        rules.append("After a rotation the old value is refused at once.")
    elif group.max_grace_seconds is not None:
        span = duration(longest_grace(group))
        rules.append(f"After a rotation the old value stays accepted for at most {span}.")
    if group.allowed_networks:
        rules.append(f"Accepted only from {', '.join(group.allowed_networks)}.")
    if group.idle_days is not None:
        rules.append(f"A key that nobody has used for {_days(group.idle_days)} is revoked.")
    return rules or ["No rule: a key may live for ever, from anywhere."]


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days:,} days"

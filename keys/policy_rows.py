"""What holds of the rules that one policy sets, the group's or the installation's, before they are written."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError

from keys.models import ConsumerGroup, InstallationPolicy, PolicyFields
from keys.networks import outside


def check_policy(one: PolicyFields) -> None:
    """Return if the rules agree with each other; else ValidationError at the field."""
    default, most = one.default_lifetime_days, one.max_lifetime_days
    if default is not None and most is not None and default > most:
        message = "This is longer than the maximum lifetime."
        raise ValidationError({"default_lifetime_days": ValidationError(message, code="above_maximum")})


def refuse_looser(was: ConsumerGroup, group: ConsumerGroup, installation: InstallationPolicy) -> None:
    """Return if no rule that is new is looser than the installation's; else ValidationError at each that is.

    A rule that became looser because the installation's was made stricter may stay: of both, the stricter holds.
    """
    ceilings = {
        "default_lifetime_days": (installation.max_lifetime_days, "days"),
        "max_lifetime_days": (installation.max_lifetime_days, "days"),
        "max_grace_seconds": (installation.max_grace_seconds, "seconds"),
        "idle_days": (installation.idle_days, "days"),
    }
    errors = {}
    for field, (most, unit) in ceilings.items():
        value = getattr(group, field)
        if most is not None and value is not None and value > most and value != getattr(was, field):
            message = f"The installation's policy allows at most {most:,} {unit}."
            errors[field] = ValidationError(message, code="looser_than_installation")
    if list(group.allowed_networks) != list(was.allowed_networks):
        beyond = outside(group.allowed_networks, installation.allowed_networks)
        if beyond:
            message = f"{', '.join(beyond[:5])} is not within what the installation's policy allows: "
            message += f"{', '.join(installation.allowed_networks[:5])}."
            errors["allowed_networks"] = ValidationError(message, code="looser_than_installation")
    if errors:
        raise ValidationError(errors)


def keep_idle_since(was: PolicyFields, one: PolicyFields, now: datetime) -> None:
    """Note since when idle keys are revoked: anew where that is a new rule, or a shorter span than it was."""
    if one.idle_days is None:
        one.idle_since = None
    elif was.idle_days is None or one.idle_days < was.idle_days:
        one.idle_since = now

"""When a key that nobody uses is revoked: days after its last use, and never without a warning.

What counts as use is what gateways have counted, and what was done to the key that lets nobody expect one yet: it was
created, enabled, rotated, or moved to another group.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Q
from django.dispatch import Signal

from keys.models import GatewayKey
from keys.policy import Idle, Rules

# A rule that is new, or has become stricter, revokes nobody before this.
WARNING: Final = timedelta(days=7)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Sent before idle keys are looked for: who holds uses that are counted and not yet added up adds them up.
counts_wanted = Signal()


def quiet_since(key: GatewayKey) -> datetime:
    """Return since when nobody has used the key, nor done with it what lets a use be awaited."""
    # `metrics` is a model of the usage house, reached by its name (design §10); a key without counts has none.
    last_used_at: datetime | None = getattr(getattr(key, "metrics", None), "last_used_at", None)
    return max(at for at in (key.created_at, key.idle_from, last_used_at) if at is not None)


def quiet_for(days: int, now: datetime) -> Q:
    """Return the condition on keys that nothing has happened to for more than so many days, as `quiet_since` says."""
    since = now - timedelta(days=days)
    unused = Q(metrics__last_used_at__isnull=True) | Q(metrics__last_used_at__lt=since)
    return unused & Q(created_at__lt=since) & (Q(idle_from__isnull=True) | Q(idle_from__lt=since))


def revoked_at(key: GatewayKey, rules: Rules) -> tuple[datetime, Idle] | None:
    """Return when the key will be revoked if nobody uses it, and by which rule; None where no rule does."""
    ends = [(max(quiet_since(key) + timedelta(days=rule.days), _warned(rule)), rule) for rule in rules.idle]
    return min(ends, key=lambda end: end[0], default=None)


def may_revoke(rule: Idle, now: datetime) -> bool:
    """Say whether the rule has been known for long enough."""
    return _warned(rule) <= now


def _warned(rule: Idle) -> datetime:
    return rule.since + WARNING if rule.since is not None else _LONG_AGO

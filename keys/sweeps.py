"""What the jobs do for keys: they record what time has already decided, and revoke what nobody uses.

Each sweep is idempotent and safe beside another one: every key is checked again under its lock.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from audit import clock
from audit.actor import Actor
from audit.moments import stamp
from keys import lifecycle
from keys.breaches import LIVE, live
from keys.idle import counts_wanted, may_revoke, quiet_for, revoked_at
from keys.models import ConsumerGroup, GatewayKey, PolicyFields
from keys.narrowing import Narrowing, narrowing
from keys.policy import Idle, in_days, installation_policy, rules_of, standing, whose

# Keys a batch; a sweep goes on until nothing is due.
BATCH: Final = 200


def expire_due() -> int:
    """Record every expiry that has passed; returns how many this sweep recorded."""
    due = GatewayKey.objects.filter(
        expires_at__isnull=False, expiry_recorded_at__isnull=True, revoked_at__isnull=True
    ).order_by("expires_at", "pk")
    actor = Actor.system("expiry")
    recorded = 0
    while key_ids := _ids(due.filter(expires_at__lte=clock.now())):
        done = sum(lifecycle.expire(actor=actor, key_id=key_id) for key_id in key_ids)
        recorded += done
        if not done:  # another sweep has them
            break
    return recorded


def close_due_grace() -> int:
    """Record every grace period that has passed; returns for how many keys this sweep did."""
    due = GatewayKey.objects.order_by("pk").distinct()
    actor = Actor.system("grace periods")
    recorded = 0
    while key_ids := _ids(due.filter(versions__valid_until__lte=clock.now(), versions__closed_at__isnull=True)):
        done = sum(lifecycle.close_grace(actor=actor, key_id=key_id) for key_id in key_ids)
        recorded += done
        if not done:
            break
    return recorded


def revoke_idle() -> int:
    """Revoke the keys that were not used for as long as a policy says, and say why; returns how many.

    A rule that is new revokes nobody before its warning is over (keys/idle.py).
    """
    counts_wanted.send(sender=GatewayKey)
    revoked = 0
    for one in (installation_policy(), *ConsumerGroup.objects.filter(idle_days__isnull=False)):
        while key_ids := _ids(_idle(one, clock.now())):
            with narrowing() as change:
                done = sum(_revoke_if_idle(change, key_id) for key_id in key_ids)
            revoked += done
            if not done:
                break
    return revoked


def _idle(one: PolicyFields, now: datetime) -> QuerySet[GatewayKey]:
    """Return the keys that this policy alone lets be revoked now."""
    rule = Idle(one.idle_days, one.idle_since, whose(one)) if one.idle_days is not None else None
    if rule is None or not may_revoke(rule, now):
        return GatewayKey.objects.none()
    keys = GatewayKey.objects.filter(quiet_for(rule.days, now), live(now))
    if isinstance(one, ConsumerGroup):
        keys = keys.filter(consumer_group=one)
    return keys.order_by("created_at", "pk")


def _revoke_if_idle(change: Narrowing, key_id: UUID) -> bool:
    with transaction.atomic():
        # No policy changes meanwhile; then the lock: a use recorded since the list was made spares the key.
        installation = standing()
        GatewayKey.objects.select_for_update(no_key=True).get(pk=key_id)
        key = GatewayKey.objects.select_related("consumer_group", "metrics").get(pk=key_id)
        now = clock.now()
        end = revoked_at(key, rules_of(key.consumer_group, installation))
        if end is None or end[0] >= now or key.status_at(now) not in LIVE:
            return False
        lifecycle.revoke(actor=Actor.system("idle keys"), key_id=key_id, reason=_reason(key, end[1]), within=change)
    return True


def _reason(key: GatewayKey, rule: Idle) -> str:
    last_used_at = getattr(getattr(key, "metrics", None), "last_used_at", None)
    used = f"last used {stamp(last_used_at)}" if last_used_at is not None else "never used"
    return f"Unused for {in_days(rule.days)}: {used}. {rule.of} revokes such keys."


def _ids(keys: QuerySet[GatewayKey]) -> list[UUID]:
    return list(keys.values_list("pk", flat=True)[:BATCH])

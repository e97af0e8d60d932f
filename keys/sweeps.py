"""What the jobs do for keys: they record what time has already decided, and revoke what nobody uses.

Each sweep is idempotent and safe beside another one: every key is checked again under its lock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from audit import clock
from audit.actor import Actor
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey
from keys.narrowing import Narrowing, narrowing

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
    """Revoke the keys that were not used for as long as their group's policy says; returns how many."""
    revoked = 0
    for group in ConsumerGroup.objects.filter(idle_days__isnull=False):
        while key_ids := _ids(_idle(group, clock.now())):
            with narrowing() as change:
                done = sum(_revoke_if_idle(change, group, key_id) for key_id in key_ids)
            revoked += done
            if not done:
                break
    return revoked


def _idle(group: ConsumerGroup, now: datetime) -> QuerySet[GatewayKey]:
    since = now - timedelta(days=group.idle_days or 0)
    # `metrics` is a model of the usage house, reached by its name (design §10).
    unused = Q(metrics__last_used_at__isnull=True) | Q(metrics__last_used_at__lt=since)
    keys = GatewayKey.objects.filter(unused, consumer_group=group, created_at__lt=since, revoked_at__isnull=True)
    return keys.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now)).order_by("created_at", "pk")


def _revoke_if_idle(change: Narrowing, group: ConsumerGroup, key_id: UUID) -> bool:
    with transaction.atomic():
        # The lock first: a use recorded or a policy changed since the list was made spares the key.
        GatewayKey.objects.select_for_update(no_key=True).get(pk=key_id)
        current = ConsumerGroup.objects.get(pk=group.pk)
        if current.idle_days is None or not _idle(current, clock.now()).filter(pk=key_id).exists():
            return False
        reason = f"Unused for {current.idle_days} days, the limit that {current.name} sets."
        lifecycle.revoke(actor=Actor.system("idle keys"), key_id=key_id, reason=reason, within=change)
    return True


def _ids(keys: QuerySet[GatewayKey]) -> list[UUID]:
    return list(keys.values_list("pk", flat=True)[:BATCH])

"""What time brings about and no verb says: warnings, each once, whoever sweeps and however often.

A notice's cause is unique, and a key is looked at again under its lock: several sweeps beside each other queue one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import models, transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from audit import clock
from keys.models import GatewayKey, GatewayKeyQuerySet, KeyVersion
from webhooks.happenings import NoticeType
from webhooks.models import Notice, SweepMark
from webhooks.payloads import instant
from webhooks.queueing import announce_key, somebody_listens

# Days before a key expires, the nearest first.
EXPIRY_WARNINGS: Final = (1, 7, 30)
# Before grace ends, or in its last quarter where it is short; of one that is shorter than the last, nobody is warned.
GRACE_WARNING: Final = timedelta(hours=1)
GRACE_PART: Final = 4
SHORTEST_GRACE: Final = timedelta(minutes=1)
# A key is idle when nobody has used it for so long; where the group revokes idle keys, this long before it does, or in
# the last quarter of the time.
IDLE: Final = timedelta(days=30)
IDLE_WARNING: Final = timedelta(days=7)
# What was idle for longer when somebody began to listen is no news.
IDLE_NEWS: Final = timedelta(days=7)
# How far a sweep looks back for denials at most, however long none has run.
DENIALS: Final = timedelta(hours=24)
BATCH: Final = 500

type Announce = Callable[[GatewayKey, datetime], Notice | None]


def warn() -> int:
    """Queue every warning that is due; return how many this sweep queued."""
    if not somebody_listens():
        return 0
    return warn_of_expiry() + warn_of_grace() + tell_of_idle() + tell_of_use_after_revocation()


def warn_of_expiry() -> int:
    """Tell of keys that expire within 30, 7 and 1 days; of a key that was made for less, only what is left to tell."""
    now = clock.now()
    queued, nearest = 0, now
    for days in EXPIRY_WARNINGS:
        span = timedelta(days=days)
        told = _told(NoticeType.KEY_EXPIRING, about_at=OuterRef("expires_at"), threshold__lte=days)
        due = GatewayKey.objects.filter(
            ~Exists(told),
            revoked_at__isnull=True,
            expires_at__gt=nearest,
            expires_at__lte=now + span,
            # Who chose a week need not be told at once that it is a week.
            lifetime__gt=span,
        )
        nearest = now + span
        queued += _each(due, lambda key, at, days=days, span=span: _expiring(key, at, days, span))  # type: ignore[misc]  # bound now
    return queued


def warn_of_grace() -> int:
    """Tell of old values that will be refused soon."""
    now = clock.now()
    later = KeyVersion.objects.filter(key=OuterRef("key"), number=OuterRef("number") + 1)
    told = Notice.objects.filter(
        type=NoticeType.KEY_GRACE_ENDING, key=OuterRef("key"), about_at=OuterRef("valid_until")
    )
    ending = KeyVersion.objects.filter(
        ~Exists(told),
        valid_until__gt=now,
        valid_until__lte=now + GRACE_WARNING,
        closed_at__isnull=True,
        key__revoked_at__isnull=True,
    ).annotate(since=models.Subquery(later.values("created_at")))
    due = [
        version.key_id
        for version in ending.order_by("valid_until")[:BATCH]
        if version.valid_until and version.valid_until - _grace_lead(version.valid_until - version.since) <= now
    ]
    return _each(GatewayKey.objects.filter(pk__in=due), _grace_ending)


def tell_of_idle() -> int:
    """Tell of keys that would be accepted and that nobody has used for long."""
    now = clock.now()
    queued = _idle_since(now, IDLE, Q(consumer_group__isnull=True) | Q(consumer_group__idle_days__isnull=True))
    limits = GatewayKey.objects.filter(consumer_group__idle_days__isnull=False).order_by()
    for days in limits.values_list("consumer_group__idle_days", flat=True).distinct():
        if days is not None:
            queued += _idle_since(now, idle_after(days), Q(consumer_group__idle_days=days))
    return queued


def tell_of_use_after_revocation() -> int:
    """Tell of revoked keys that somebody still shows to a gateway: once for each key and day (UTC)."""
    now = clock.now()
    mark = SweepMark.objects.filter(name="denials").first()
    since = max(mark.until if mark else now - DENIALS, now - DENIALS)
    # Events of the usage house, reached by their name (design §10). Denials are written as they happen, within seconds.
    events = GatewayKey._meta.get_field("usage_events").related_model._default_manager
    denied = events.filter(reason="key_revoked", occurred_at__gte=since, key__isnull=False)
    last_tried = dict(denied.order_by().values_list("key").annotate(Max("occurred_at")))
    queued = 0
    for key_id, at in last_tried.items():
        queued += _still_used(key_id, at)
    until = now - timedelta(minutes=1)
    SweepMark.objects.update_or_create(name="denials", defaults={"until": until})
    return queued


def idle_after(idle_days: int) -> timedelta:
    """Return after how long without use a key is told of, where its group revokes it after `idle_days` days."""
    limit = timedelta(days=idle_days)
    return max(limit - IDLE_WARNING, limit * (GRACE_PART - 1) / GRACE_PART)


def _each(keys: QuerySet[GatewayKey], announce: Announce) -> int:
    """Let each of `keys` be announced under its lock; return how many were."""
    queued = 0
    ids: Iterable[UUID] = list(keys.order_by("pk").values_list("pk", flat=True)[:BATCH])
    for key_id in ids:
        with transaction.atomic():
            key = GatewayKey.objects.select_for_update(of=("self",), no_key=True).get(pk=key_id)
            queued += announce(key, clock.now()) is not None
    return queued


def _told(notice_type: NoticeType, **which: object) -> QuerySet[Notice]:
    return Notice.objects.filter(type=notice_type, key=OuterRef("pk"), **which)


def _expiring(key: GatewayKey, now: datetime, days: int, span: timedelta) -> Notice | None:
    at = key.expires_at
    if at is None or key.revoked_at is not None or not now < at <= now + span:
        return None
    cause = f"expiring:{key.pk}:{instant(at)}:{days}"
    return announce_key(NoticeType.KEY_EXPIRING, key.pk, cause, about_at=at, threshold=days, days=days)


def _grace_lead(grace: timedelta) -> timedelta:
    return min(GRACE_WARNING, grace / GRACE_PART) if grace >= SHORTEST_GRACE else timedelta(0)


def _grace_ending(key: GatewayKey, now: datetime) -> Notice | None:
    ending = key.versions.filter(valid_until__gt=now, closed_at__isnull=True).order_by("valid_until").first()
    if ending is None or ending.valid_until is None or key.revoked_at is not None:
        return None
    until = ending.valid_until
    cause = f"grace_ending:{key.pk}:{instant(until)}"
    facts: dict[str, Any] = {"grace_ends_at": instant(until), "version": ending.number}
    return announce_key(NoticeType.KEY_GRACE_ENDING, key.pk, cause, about_at=until, **facts)


def _idle_since(now: datetime, after: timedelta, which: Q) -> int:
    since = now - after
    # `metrics` is a model of the usage house, reached by its name (design §10).
    keys: GatewayKeyQuerySet = GatewayKey.objects.usable(now).filter(which)
    last = keys.annotate(last=Coalesce(F("metrics__last_used_at"), F("created_at")))
    told = _told(NoticeType.KEY_IDLE, about_at=OuterRef("last"))
    due = last.filter(~Exists(told), last__lte=since, last__gt=since - IDLE_NEWS)
    return _each(due, lambda key, at: _idle(key, at, after))


def _idle(key: GatewayKey, now: datetime, after: timedelta) -> Notice | None:
    metrics = getattr(key, "metrics", None)
    used_at = metrics.last_used_at if metrics else None
    last = used_at or key.created_at
    if last > now - after or not GatewayKey.objects.usable(now).filter(pk=key.pk).exists():
        return None
    limit = key.consumer_group.idle_days if key.consumer_group else None
    facts: dict[str, Any] = {"last_used_at": instant(used_at), "idle_days": (now - last).days}
    if limit is not None:
        facts["revoked_from"] = instant(last + timedelta(days=limit))
    return announce_key(NoticeType.KEY_IDLE, key.pk, f"idle:{key.pk}:{instant(last)}", about_at=last, **facts)


def _still_used(key_id: UUID, at: datetime) -> bool:
    cause = f"used_after_revocation:{key_id}:{at.date()}"
    if Notice.objects.filter(cause=cause).exists():
        return False
    with transaction.atomic():
        key = GatewayKey.objects.select_for_update(of=("self",), no_key=True).get(pk=key_id)
        if key.revoked_at is None:
            return False
        told = announce_key(NoticeType.KEY_USED_AFTER_REVOCATION, key_id, cause, at=at, last_tried_at=instant(at))
    return told is not None

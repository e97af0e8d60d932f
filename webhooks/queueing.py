"""How a notice gets into the queue: in the transaction of what it tells, once for each cause, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.dispatch import receiver

from access.models import Member
from access.rules import Role
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from audit.signals import entry_recorded
from keys.models import GatewayKey
from webhooks import payloads
from webhooks.happenings import IMPORTANT, OF_ENTRIES, NoticeType
from webhooks.models import Delivery, KeyNotices, Notice, WebhookEndpoint


@receiver(entry_recorded, dispatch_uid="webhooks")
def on_entry(sender: type[AuditEntry], entry: AuditEntry, **kwargs: Any) -> None:
    """Queue the notice of what was just recorded. Whoever listens for the entry has its transaction around this."""
    if (notice_type := OF_ENTRIES.get(entry.action)) is not None:
        if somebody_listens():
            announce_key(notice_type, UUID(entry.object_id), f"entry:{entry.pk}", at=entry.at, of_entry=entry)
    elif entry.action == AuditAction.AUDIT_VERIFIED and not entry.detail.get("valid", True):
        # The same damage, found again on the same day, is the same news.
        found = f"{entry.detail['sealed']}:{entry.detail['problems']}"
        data = {"verification": entry.detail, "actor": {"kind": entry.actor_kind, "name": entry.actor_label}}
        announce(NoticeType.AUDIT_ALTERED, f"altered:{entry.at.date()}:{found}", data, at=entry.at, mail_to=_guards())


def somebody_listens() -> bool:
    """Say whether there is anybody at all whom notices might reach; else none is written."""
    return settings.KEEPTRUSTS_MAIL or WebhookEndpoint.objects.filter(disabled_at__isnull=True).exists()


def announce_key(
    notice_type: NoticeType,
    key_id: UUID,
    cause: str,
    *,
    at: datetime | None = None,
    of_entry: AuditEntry | None = None,
    about_at: datetime | None = None,
    threshold: int | None = None,
    **facts: Any,
) -> Notice | None:
    """Queue a notice of a key, whose row the caller has locked, and return it; None where its cause has had one.

    at: when it happened, now unless it is said. facts: what the notice says beside the key.
    """
    key = (
        GatewayKey.objects.select_related("consumer_group", "created_by", "revoked_by", "owner")
        .prefetch_related("versions")
        .get(pk=key_id)
    )
    about = {**payloads.entry_facts(of_entry), **facts} if of_entry is not None else facts
    data = {"gateway_key": payloads.key_facts(key), **about}
    warning: dict[str, Any] = {"about_at": about_at, "threshold": threshold}
    return announce(notice_type, cause, data, at=at, key=key, mail_to=_responsible_for(key), **warning)


def announce(
    notice_type: NoticeType,
    cause: str,
    data: Mapping[str, Any],
    *,
    at: datetime | None = None,
    key: GatewayKey | None = None,
    mail_to: Iterable[Member] = (),
    only: WebhookEndpoint | None = None,
    **warning: Any,
) -> Notice | None:
    """Queue a notice for every endpoint that wants it and, by mail, for each of `mail_to` who does; return it.

    None where its cause has had one. only: the one endpoint that it is for. What is queued is sent after commit.
    Errors: TransactionManagementError outside a transaction.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("a notice is queued in the transaction of what it tells")
    if Notice.objects.filter(cause=cause).exists():
        return None
    now = clock.now()
    numbered = {"sequence": _next_number(key)} if key is not None else {}
    body = payloads.body_of(notice_type, at or now, {**numbered, **data})
    notice = Notice(type=notice_type, cause=cause, key=key, body=body, occurred_at=at or now, **numbered, **warning)
    try:
        with transaction.atomic():
            notice.save(force_insert=True)
    except IntegrityError:  # somebody else was faster
        return None
    _queue(notice, now, mail_to, only)
    return notice


def hand_over(delivery_ids: Iterable[UUID]) -> None:
    """Ask a worker, after commit, to send these. If nobody hears it, the sweep asks again."""
    ids = [str(delivery_id) for delivery_id in delivery_ids]

    def ask() -> None:
        from webhooks.tasks import deliver

        for delivery_id in ids:
            # Not tried again: whoever made the change would wait for it.
            deliver.apply_async(args=(delivery_id,), retry=False)

    if ids:
        transaction.on_commit(ask, robust=True)


def _queue(notice: Notice, now: datetime, mail_to: Iterable[Member], only: WebhookEndpoint | None) -> None:
    endpoints = [only] if only is not None else WebhookEndpoint.objects.filter(disabled_at__isnull=True)
    row = {"notice": notice, "created_at": now, "next_attempt_at": now}
    deliveries = [
        # One that fails is asked by the sweep alone, one notice after the other: it must not keep the workers busy.
        Delivery(endpoint=endpoint, handed_at=None if endpoint.failing_since else now, **row)
        for endpoint in endpoints
        if only is not None or endpoint.wants(notice.type)
    ]
    if settings.KEEPTRUSTS_MAIL:
        members = {member.pk: member for member in mail_to if _wants_mail(member, notice.type)}
        deliveries += [Delivery(recipient=member, handed_at=now, **row) for member in members.values()]
    Delivery.objects.bulk_create(deliveries)
    hand_over(delivery.pk for delivery in deliveries if delivery.handed_at is not None)


def _next_number(key: GatewayKey) -> int:
    """Return the number of a key's next notice. The key's row is locked, so nobody else takes it."""
    if not KeyNotices.objects.filter(pk=key.pk).update(last_sequence=F("last_sequence") + 1):
        KeyNotices.objects.create(key=key, last_sequence=1)
    return KeyNotices.objects.values_list("last_sequence", flat=True).get(pk=key.pk)


def _responsible_for(key: GatewayKey) -> list[Member]:
    """Return the key's owner and the managers that its group names, of those who may see the key."""
    if not settings.KEEPTRUSTS_MAIL:
        return []
    managed = Q(managed_groups=key.consumer_group_id) if key.consumer_group_id else Q(pk__in=[])
    members = Member.objects.active().filter(Q(pk=key.owner_id) | managed).distinct()
    # Whom the group names sees its keys.
    return [member for member in members if member.pk != key.owner_id or member.may("keys.view_gatewaykey", key)]


def _guards() -> list[Member]:
    """Return who answers for the audit log."""
    if not settings.KEEPTRUSTS_MAIL:
        return []
    return list(Member.objects.active().filter(role__in=[Role.ADMIN, Role.AUDITOR]))


def _wants_mail(member: Member, notice_type: str) -> bool:
    if not member.email or not member.is_active:
        return False
    return member.notice_mail == "all" or (member.notice_mail == "important" and notice_type in IMPORTANT)

"""Notices by mail, through Django's mail settings: plain text, with the way to what they are about."""

from __future__ import annotations

import json
import time
from datetime import datetime
from smtplib import SMTPException
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from access.models import Member
from audit.instants import parse_instant
from audit.moments import exact
from webhooks.happenings import NoticeType
from webhooks.models import Delivery, Notice
from webhooks.posting import Answer

WHY: Final = (
    "You get this because you own the key or manage its group. What is mailed to you, you choose under Preferences: "
)


def send(delivery: Delivery) -> Answer:
    """Mail a notice to its recipient, and return what came of it. It never raises."""
    member, started = delivery.recipient, time.monotonic()
    error = ""
    if not settings.KEEPTRUSTS_MAIL:
        error = "No mail server is configured (EMAIL_URL)."
    elif member is None or not member.email or not member.is_active:
        error = "The member has no mail address, or was taken out."
    elif not _may_read(member, delivery.notice):
        error = "The member may not see any more what it is about."
    else:
        try:
            message_for(delivery.notice, member.email, member.pk).send()
        except (SMTPException, OSError, UnicodeError, ValueError) as problem:
            error = f"The mail server did not take it: {problem}"[:300]
    return Answer(None, error, int((time.monotonic() - started) * 1000))


def _may_read(member: Member, notice: Notice) -> bool:
    """Say whether the recipient may see now what the notice tells: it may have waited for days."""
    if notice.key is not None:
        return member.may("keys.view_gatewaykey", notice.key)
    about = "audit.verify_auditentry" if notice.type == NoticeType.AUDIT_ALTERED else "webhooks.view_webhookendpoint"
    return member.may(about)


def message_for(notice: Notice, address: str, member_id: int) -> EmailMessage:
    """Return the mail that tells `notice`. Sent again it carries the same Message-ID: mailboxes keep one."""
    told = json.loads(notice.body)
    host = urlsplit(settings.PUBLIC_URL).hostname
    headers = {"Message-ID": f"<{notice.pk}.{member_id}@{host}>", "Auto-Submitted": "auto-generated"}
    subject, *lines = _words(notice, told["data"])
    text = "\n".join([*lines, "", f"{WHY}{settings.PUBLIC_URL}{reverse('admin:preferences')}", f"Notice {notice.pk}"])
    return EmailMessage(f"[Keeptrusts] {subject}", text + "\n", to=[address], headers=headers)


def _words(notice: Notice, data: dict[str, Any]) -> list[str]:
    """Return the subject and then the lines of the text."""
    if notice.type == NoticeType.AUDIT_ALTERED:
        found = data["verification"]
        place = f"{settings.PUBLIC_URL}{reverse('admin:audit_auditentry_verify_now')}"
        return [
            "The audit log was found altered",
            f"A verification of {found['sealed']} sealed entries found {found['problems']} problems.",
            f"Which: {place}",
        ]
    if notice.type == NoticeType.ENDPOINT_DISABLED:
        endpoint = data["webhook_endpoint"]
        place = f"{settings.PUBLIC_URL}{reverse('admin:webhooks_webhookendpoint_change', args=[endpoint['id']])}"
        return [
            f"Webhook endpoint “{endpoint['name']}” is disabled",
            f"No notices are sent to the webhook endpoint “{endpoint['name']}” any more. {endpoint['disabled_reason']}",
            f"Not delivered: {endpoint['undelivered']}. Enable it and send them again: {place}",
        ]
    return _words_of_key(NoticeType(notice.type), notice.occurred_at, data)


def _words_of_key(notice_type: NoticeType, at: datetime, data: dict[str, Any]) -> list[str]:
    key = data["gateway_key"]
    name = key["name"]
    subject = {
        NoticeType.KEY_EXPIRING: f"Key “{name}” expires in {_days(data.get('days', 0))}",
        NoticeType.KEY_GRACE_ENDING: f"The old value of key “{name}” will be refused soon",
        NoticeType.KEY_GRACE_ENDED: f"The old value of key “{name}” is refused from now on",
        NoticeType.KEY_IDLE: f"Key “{name}” is not used",
        NoticeType.KEY_USED_AFTER_REVOCATION: f"Revoked key “{name}” is still being tried",
    }.get(notice_type, f"{notice_type.label}: “{name}”")
    facts = [
        ("Key", f"{name} ({key['hint']})"),
        ("Consumer group", key["consumer_group"] or "none: traffic of every group"),
        ("Status", key["status"]),
        ("Expires", _time(key["expires_at"]) or "never"),
        ("Grace ends", _time(data.get("grace_ends_at"))),
        ("Last used", _time(data["last_used_at"]) or "never" if "last_used_at" in data else ""),
        ("Will be revoked", _time(data.get("revoked_from"))),
        ("Last tried", _time(data.get("last_tried_at"))),
        ("Reason", key["revoke_reason"]),
        ("By", (data.get("actor") or {}).get("name") or ""),
        ("When", exact(at)),
    ]
    place = f"{settings.PUBLIC_URL}{reverse('admin:keys_gatewaykey_change', args=[key['id']])}"
    lines = [f"{label + ':':16}{text}" for label, text in facts if text]
    return [_one_line(subject), *lines, "", place]


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _time(text: str | None) -> str:
    return exact(parse_instant(text)) if text else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""What a notice says: `{"type", "timestamp", "data"}` (Standard Webhooks, "Payload structure"), never a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from audit import clock
from audit.actor import ActorKind
from audit.models import AuditEntry
from audit.recording import plain
from keys.models import GatewayKey
from keys.serializers import KeyJSON


class NoticeKeyJSON(KeyJSON):
    """A key as the API shows it, without its figures; of its versions those that are accepted."""

    versions = serializers.SerializerMethodField()  # type: ignore[assignment]  # fewer of them, and less of each

    class Meta(KeyJSON.Meta):
        fields = [name for name in KeyJSON.Meta.fields if name != "metrics"]
        read_only_fields = fields

    def get_versions(self, key: GatewayKey) -> list[dict[str, Any]]:
        now = clock.now()
        accepted = (version for version in key.versions.all() if not version.valid_until or version.valid_until > now)
        return [
            {
                "number": version.number,
                "hint": version.hint,
                "state": version.state_at(now).value,
                "created_at": instant(version.created_at),
                "valid_until": instant(version.valid_until),
            }
            for version in accepted
        ]


def body_of(notice_type: str, at: datetime, data: Mapping[str, Any]) -> str:
    """Return the JSON that is sent, as short as it can be."""
    body = {"type": notice_type, "timestamp": instant(at), "data": plain(data)}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def key_facts(key: GatewayKey) -> dict[str, Any]:
    """Return a key for a notice."""
    return dict(NoticeKeyJSON(key).data)


def entry_facts(entry: AuditEntry) -> dict[str, Any]:
    """Return who did it and what changed, for a notice of an audit entry."""
    return {
        "actor": {"kind": entry.actor_kind, "name": entry.actor_label if _is_known(entry) else None},
        "audit_entry": entry.pk,
        "changes": {"before": entry.before, "after": entry.after},
        "detail": entry.detail,
    }


def instant(at: datetime | None) -> str | None:
    """Return a time in RFC 3339, in UTC, as the API writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at is not None else None


def _is_known(entry: AuditEntry) -> bool:
    # What a stranger calls themselves is their claim, and might be anything.
    return entry.actor_kind != ActorKind.ANONYMOUS

"""What notices are about: every type by its name, which is the audit action's where there is one."""

from __future__ import annotations

from typing import Final

from django.db import models

from audit.actions import AuditAction


class NoticeType(models.TextChoices):
    KEY_CREATED = "gateway_key.created", "Key created"
    KEY_EDITED = "gateway_key.edited", "Key edited"
    KEY_ROTATED = "gateway_key.rotated", "Key rotated"
    KEY_GRACE_ENDING = "gateway_key.grace_ending", "Grace ends soon"
    KEY_GRACE_EXTENDED = "gateway_key.grace_extended", "Grace extended"
    KEY_GRACE_ENDED = "gateway_key.grace_ended", "Grace ended"
    KEY_EXPIRING = "gateway_key.expiring", "Key expires soon"
    KEY_EXPIRED = "gateway_key.expired", "Key expired"
    KEY_DISABLED = "gateway_key.disabled", "Key disabled"
    KEY_ENABLED = "gateway_key.enabled", "Key enabled"
    KEY_REVOKED = "gateway_key.revoked", "Key revoked"
    KEY_IDLE = "gateway_key.idle", "Key is idle"
    KEY_USED_AFTER_REVOCATION = "gateway_key.used_after_revocation", "Used after revocation"
    AUDIT_ALTERED = "audit.altered", "Audit log found altered"
    ENDPOINT_DISABLED = "webhook_endpoint.disabled", "Webhook endpoint disabled"
    TEST = "webhook_endpoint.test", "Test"


# What a verb has recorded of a key; the other types come from the sweeps (webhooks/sweeps.py) and from verification.
OF_ENTRIES: Final[dict[str, NoticeType]] = {
    AuditAction.KEY_CREATED: NoticeType.KEY_CREATED,
    AuditAction.KEY_EDITED: NoticeType.KEY_EDITED,
    AuditAction.KEY_ROTATED: NoticeType.KEY_ROTATED,
    AuditAction.KEY_GRACE_EXTENDED: NoticeType.KEY_GRACE_EXTENDED,
    AuditAction.KEY_GRACE_ENDED: NoticeType.KEY_GRACE_ENDED,
    AuditAction.KEY_EXPIRED: NoticeType.KEY_EXPIRED,
    AuditAction.KEY_DISABLED: NoticeType.KEY_DISABLED,
    AuditAction.KEY_ENABLED: NoticeType.KEY_ENABLED,
    AuditAction.KEY_REVOKED: NoticeType.KEY_REVOKED,
}

# What an endpoint may choose from. A test goes to the one endpoint that is tested, whatever it has chosen.
CHOOSABLE: Final = tuple(type_ for type_ in NoticeType if type_ is not NoticeType.TEST)

CHOICES: Final = [(type_.value, type_.label) for type_ in CHOOSABLE]

# What is mailed to members who want only what asks something of them.
IMPORTANT: Final = frozenset(
    {
        NoticeType.KEY_GRACE_ENDING,
        NoticeType.KEY_EXPIRING,
        NoticeType.KEY_EXPIRED,
        NoticeType.KEY_DISABLED,
        NoticeType.KEY_REVOKED,
        NoticeType.KEY_IDLE,
        NoticeType.KEY_USED_AFTER_REVOCATION,
        NoticeType.AUDIT_ALTERED,
        NoticeType.ENDPOINT_DISABLED,
    }
)

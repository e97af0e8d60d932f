"""What a verb says no with, and how a refused attempt gets into the audit log.

A verb raises; its transaction unwinds; then the door (API, console) records the refusal in one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models, transaction

from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.recording import Subject, record


class Forbidden(PermissionDenied):
    """The actor may not do this. permission: what was asked for, "<house>.<verb>_<model>"."""

    def __init__(self, permission: str, obj: object | None = None) -> None:
        super().__init__("Your role does not allow this.")
        self.permission = permission
        self.obj = obj


class Conflict(Exception):
    """The state does not allow this now. code: stable, for machines; the message is for people.

    more: what else the API's answer says, as JSON.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        permission: str = "",
        obj: object | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.permission = permission
        self.obj = obj
        self.more = dict(more or {})


# What each permission's refusal is called in the log. What is not here (reading) is not recorded.
REFUSED_ACTIONS: dict[str, AuditAction] = {
    "keys.add_gatewaykey": AuditAction.KEY_CREATE_REFUSED,
    "keys.change_gatewaykey": AuditAction.KEY_EDIT_REFUSED,
    "keys.rotate_gatewaykey": AuditAction.KEY_ROTATE_REFUSED,
    "keys.end_grace_gatewaykey": AuditAction.KEY_END_GRACE_REFUSED,
    "keys.extend_grace_gatewaykey": AuditAction.KEY_EXTEND_GRACE_REFUSED,
    "keys.disable_gatewaykey": AuditAction.KEY_DISABLE_REFUSED,
    "keys.enable_gatewaykey": AuditAction.KEY_ENABLE_REFUSED,
    "keys.revoke_gatewaykey": AuditAction.KEY_REVOKE_REFUSED,
    "keys.add_consumergroup": AuditAction.GROUP_CREATE_REFUSED,
    "keys.change_consumergroup": AuditAction.GROUP_EDIT_REFUSED,
    "keys.change_installationpolicy": AuditAction.POLICY_EDIT_REFUSED,
    "gateways.add_gateway": AuditAction.GATEWAY_CREATE_REFUSED,
    "gateways.change_gateway": AuditAction.GATEWAY_EDIT_REFUSED,
    "gateways.rotate_token_gateway": AuditAction.GATEWAY_ROTATE_TOKEN_REFUSED,
    "webhooks.add_webhookendpoint": AuditAction.WEBHOOK_CREATE_REFUSED,
    "webhooks.change_webhookendpoint": AuditAction.WEBHOOK_EDIT_REFUSED,
    "webhooks.rotate_secret_webhookendpoint": AuditAction.WEBHOOK_ROTATE_SECRET_REFUSED,
    "webhooks.disable_webhookendpoint": AuditAction.WEBHOOK_DISABLE_REFUSED,
    "webhooks.enable_webhookendpoint": AuditAction.WEBHOOK_ENABLE_REFUSED,
    "webhooks.test_webhookendpoint": AuditAction.WEBHOOK_TEST_REFUSED,
    "webhooks.redeliver_webhookendpoint": AuditAction.WEBHOOK_REDELIVER_REFUSED,
    "webhooks.redeliver_delivery": AuditAction.WEBHOOK_REDELIVER_REFUSED,
    "access.add_member": AuditAction.MEMBER_CREATE_REFUSED,
    "access.change_member": AuditAction.MEMBER_EDIT_REFUSED,
    "access.prefer_member": AuditAction.MEMBER_EDIT_REFUSED,
    "access.add_accesskey": AuditAction.ACCESS_KEY_CREATE_REFUSED,
    "access.change_accesskey": AuditAction.ACCESS_KEY_EDIT_REFUSED,
    "access.revoke_accesskey": AuditAction.ACCESS_KEY_REVOKE_REFUSED,
    "keys.export_gatewaykey": AuditAction.EXPORT_REFUSED,
    "usage.export_usageevent": AuditAction.EXPORT_REFUSED,
    "access.review_member": AuditAction.EXPORT_REFUSED,
    "usage.export_usagebucket": AuditAction.EXPORT_REFUSED,
    "audit.export_auditentry": AuditAction.EXPORT_REFUSED,
}

# The audit log's name of each kind of object, by the permission's model.
OBJECT_TYPES = {
    "gatewaykey": "gateway_key",
    "consumergroup": "consumer_group",
    "installationpolicy": "policy",
    "gateway": "gateway",
    "webhookendpoint": "webhook_endpoint",
    "delivery": "webhook_delivery",
    "member": "member",
    "accesskey": "access_key",
    "usageevent": "usage_event",
    "usagebucket": "usage_day",
    "auditentry": "audit_entry",
}


def record_refusal(actor: Actor, refusal: Forbidden | Conflict) -> None:
    """Write that `actor`, a signed-in member, was refused; nothing for reading and for strangers."""
    action = REFUSED_ACTIONS.get(refusal.permission)
    if action is None or actor.kind is not ActorKind.MEMBER:
        return
    obj: Any = refusal.obj
    kind = OBJECT_TYPES[refusal.permission.rpartition("_")[2]]
    known = isinstance(obj, models.Model) and not obj._state.adding
    about = Subject(kind, obj.pk, str(obj)) if known else Subject(kind)
    detail = {"code": refusal.code if isinstance(refusal, Conflict) else "permission_denied"}
    with transaction.atomic():
        record(action, actor, about, detail=detail)

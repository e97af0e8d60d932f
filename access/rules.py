"""The rule book: what a role may do, the same in admin, bulk actions, API and exports (design §7).

PERMISSIONS says it for each role, and of a member who came with an access key its limits take away (access/limits.py).
Houses that know more (which groups a manager may manage) add a rule for one of
their models with `object_rule`, and one for what a member sees of it with `visibility_rule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.db import models

from access.refusals import Forbidden
from audit.actor import Actor

if TYPE_CHECKING:
    from access.models import Member


class Role(models.TextChoices):
    ADMIN = "admin", "Admin"
    MANAGER = "manager", "Manager"
    AUDITOR = "auditor", "Auditor"


EVERYONE = frozenset(Role)
CHANGERS = frozenset({Role.ADMIN, Role.MANAGER})
ADMINS = frozenset({Role.ADMIN})

# "<house>.<verb>_<model>", in the form of Django's own permissions, so that the admin asks for the same ones.
PERMISSIONS: dict[str, frozenset[Role]] = {
    "keys.view_gatewaykey": EVERYONE,
    "keys.add_gatewaykey": CHANGERS,
    "keys.change_gatewaykey": CHANGERS,
    "keys.rotate_gatewaykey": CHANGERS,
    "keys.end_grace_gatewaykey": CHANGERS,
    "keys.extend_grace_gatewaykey": CHANGERS,
    "keys.disable_gatewaykey": CHANGERS,
    "keys.enable_gatewaykey": CHANGERS,
    "keys.revoke_gatewaykey": CHANGERS,
    "keys.export_gatewaykey": EVERYONE,
    "keys.review_gatewaykey": EVERYONE,
    "keys.view_keyversion": EVERYONE,
    "keys.view_consumergroup": EVERYONE,
    "keys.add_consumergroup": ADMINS,
    "keys.change_consumergroup": ADMINS,
    "keys.view_installationpolicy": EVERYONE,
    "keys.change_installationpolicy": ADMINS,
    "usage.view_usageevent": EVERYONE,
    "usage.export_usageevent": EVERYONE,
    "usage.view_usagebucket": EVERYONE,
    "usage.export_usagebucket": EVERYONE,
    "gateways.view_gateway": EVERYONE,
    "gateways.add_gateway": ADMINS,
    "gateways.change_gateway": ADMINS,
    "gateways.rotate_token_gateway": ADMINS,
    "webhooks.view_webhookendpoint": ADMINS,
    "webhooks.add_webhookendpoint": ADMINS,
    "webhooks.change_webhookendpoint": ADMINS,
    "webhooks.rotate_secret_webhookendpoint": ADMINS,
    "webhooks.disable_webhookendpoint": ADMINS,
    "webhooks.enable_webhookendpoint": ADMINS,
    "webhooks.test_webhookendpoint": ADMINS,
    "webhooks.redeliver_webhookendpoint": ADMINS,
    "webhooks.view_delivery": ADMINS,
    "webhooks.redeliver_delivery": ADMINS,
    "access.view_member": ADMINS,
    "access.add_member": ADMINS,
    "access.change_member": ADMINS,
    # What they set for themselves alone.
    "access.prefer_member": EVERYONE,
    "access.review_member": frozenset({Role.ADMIN, Role.AUDITOR}),
    "access.view_accesskey": EVERYONE,
    "access.add_accesskey": EVERYONE,
    "access.change_accesskey": EVERYONE,
    "access.revoke_accesskey": EVERYONE,
    "audit.view_auditentry": EVERYONE,
    "audit.export_auditentry": frozenset({Role.ADMIN, Role.AUDITOR}),
    "audit.verify_auditentry": frozenset({Role.ADMIN, Role.AUDITOR}),
}

type ObjectRule = Callable[[Member, str, Any], bool]
type VisibilityRule = Callable[[Member, models.QuerySet[Any]], models.QuerySet[Any]]

_object_rules: dict[type[models.Model], ObjectRule] = {}
_visibility_rules: dict[type[models.Model], VisibilityRule] = {}


def object_rule(model: type[models.Model]) -> Callable[[ObjectRule], ObjectRule]:
    """Register the rule that narrows permissions for one object of `model`."""

    def register(rule: ObjectRule) -> ObjectRule:
        _object_rules[model] = rule
        return rule

    return register


def visibility_rule(model: type[models.Model]) -> Callable[[VisibilityRule], VisibilityRule]:
    """Register the rule that says which rows of `model` a member sees."""

    def register(rule: VisibilityRule) -> VisibilityRule:
        _visibility_rules[model] = rule
        return rule

    return register


def allows(member: Member, permission: str, obj: object | None = None) -> bool:
    """Say whether `member` may do this, to this object where one is given. An unlisted permission is nobody's."""
    if not member.is_active or member.role not in PERMISSIONS.get(permission, frozenset()):
        return False
    if not member.limits.allow(permission):
        return False
    rule = _object_rules.get(type(obj)) if obj is not None else None  # type: ignore[arg-type]  # absent: no rule
    return rule is None or rule(member, permission, obj)


def visible[M: models.Model](member: Member, queryset: models.QuerySet[M]) -> models.QuerySet[M]:
    """Return the part of `queryset` that `member` sees; the rest is answered as if it did not exist."""
    verb = f"{queryset.model._meta.app_label}.view_{queryset.model._meta.model_name}"
    if not allows(member, verb):
        return queryset.none()
    rule = _visibility_rules.get(queryset.model)
    return cast("models.QuerySet[M]", rule(member, queryset)) if rule else queryset


def require(actor: Actor, permission: str, obj: object | None = None) -> None:
    """Return if `actor` may do this; else Forbidden, which the door records as a refused attempt."""
    if not actor.may(permission, obj):
        raise Forbidden(permission, obj)

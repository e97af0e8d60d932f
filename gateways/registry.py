"""The one writer of gateways: register, edit, rotate the token.

A change by which processes decide otherwise is known to all of them when the verb returns; the gateway's `narrowing`
tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from access import tokens
from access.preconditions import Precondition, tag_of
from access.rules import require
from access.text import clean_text, refuse_unknown
from access.tokens import TokenKind
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, changes, record
from gateways.models import Gateway, GatewayToken
from keys.models import ConsumerGroup
from keys.narrowing import Kind, Narrowing, narrowing

SETTINGS: Final = ("usage_source", "require_group", "client_address")
EDITABLE: Final = frozenset({"name", "consumer_groups", *SETTINGS})
LONGEST_OVERLAP: Final = timedelta(days=30)
# More than two hosts' readings of the database's clock ever differ.
READINGS_DIFFER: Final = timedelta(seconds=1)
DEFAULT_OVERLAP: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A gateway and its new token's value, which is known only now."""

    gateway: Gateway
    token: GatewayToken
    value: str

    def __repr__(self) -> str:
        return f"IssuedToken({self.token.hint})"


def create_gateway(*, actor: Actor, name: str, **particulars: Any) -> IssuedToken:
    """Register a gateway and return it with its token, shown this once. particulars: anything in EDITABLE.

    Errors: Forbidden; ValidationError at the field, also for a name that is taken.
    """
    require(actor, "gateways.add_gateway")
    gateway = Gateway()
    # Nobody holds anything of it, but that its token is unknown.
    with narrowing(waits=False) as change, transaction.atomic():
        _apply(gateway, {"name": name, **particulars})
        gateway.save(force_insert=True)
        gateway.consumer_groups.set(particulars.get("consumer_groups", ()))
        issued = _issue_token(gateway)
        record(AuditAction.GATEWAY_CREATED, actor, _about(gateway), {}, snapshot(gateway), {"token": issued.token.hint})
        _changed(gateway, change)
    return issued


def edit_gateway(
    *, actor: Actor, gateway_id: UUID, changed: Mapping[str, Any], expected: Precondition | None = None
) -> Gateway:
    """Give a gateway other particulars (EDITABLE); what is not named stays. Nothing new is no entry.

    Errors: Gateway.DoesNotExist; Forbidden; PreconditionFailed where it is not in the state that is expected;
    ValidationError at the field.
    """
    with narrowing() as change, transaction.atomic():
        gateway = Gateway.objects.select_for_update(no_key=True).get(pk=gateway_id)
        require(actor, "gateways.change_gateway", gateway)
        if expected is not None:
            expected.require(gateway, state_tag(gateway))
        before = snapshot(gateway)
        _apply(gateway, changed)
        if "consumer_groups" in changed:
            gateway.consumer_groups.set(changed["consumer_groups"])
        old, new = changes(before, snapshot(gateway))
        if new:
            gateway.save()
            record(AuditAction.GATEWAY_EDITED, actor, _about(gateway), old, new)
        if changed.keys() - {"name"}:
            _changed(gateway, change)
    return gateway


def rotate_token(
    *,
    actor: Actor,
    gateway_id: UUID,
    overlap: timedelta = DEFAULT_OVERLAP,
    expected: Precondition | None = None,
) -> IssuedToken:
    """Give a gateway a new token and return its value, shown this once.

    overlap: how long the old one stays accepted, 0 = not at all, at most LONGEST_OVERLAP. Older ones that still
    overlap are cut to the same instant. Errors: Gateway.DoesNotExist; Forbidden; PreconditionFailed; ValidationError.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        message = f"Between 0 and {int(LONGEST_OVERLAP.total_seconds()):,} seconds."
        raise ValidationError({"overlap_seconds": ValidationError(message, code="out_of_range")})
    with narrowing() as change, transaction.atomic():
        gateway = Gateway.objects.select_for_update(no_key=True).get(pk=gateway_id)
        require(actor, "gateways.rotate_token_gateway", gateway)
        if expected is not None:
            expected.require(gateway, state_tag(gateway))
        # "Not at all" must not depend on whose reading of the clock is a moment behind.
        until = clock.now() + (overlap or -READINGS_DIFFER)
        gateway.tokens.filter(valid_until__gt=until).update(valid_until=until)
        gateway.tokens.filter(valid_until__isnull=True).update(valid_until=until)
        issued = _issue_token(gateway)
        detail = {"token": issued.token.hint, "old_accepted_until": until}
        record(AuditAction.GATEWAY_TOKEN_ROTATED, actor, _about(gateway), detail=detail)
        _changed(gateway, change)
    return issued


def snapshot(gateway: Gateway) -> dict[str, Any]:
    """Return what the audit log says of a gateway."""
    groups: Iterable[ConsumerGroup] = gateway.consumer_groups.all()
    facts = {field: getattr(gateway, field) for field in ("name", *SETTINGS)}
    return {**facts, "consumer_groups": sorted(group.slug for group in groups)}


def state_tag(gateway: Gateway) -> str:
    """Return the tag of a gateway's state (access/preconditions.py); it counts groups that a reader does not see."""
    links = Gateway.consumer_groups.through.objects.filter(gateway=gateway)
    tokens = list(GatewayToken.objects.filter(gateway=gateway))
    facts = {field: getattr(gateway, field) for field in ("name", *SETTINGS)}
    facts |= {"id": gateway.pk, "groups": sorted(links.values_list("consumergroup", flat=True))}
    facts["tokens"] = sorted((token.pk, token.valid_until) for token in tokens)
    now = clock.now()
    return tag_of(facts, by_time=f"{sum(token.is_usable(now) for token in tokens)}")


def _apply(gateway: Gateway, changed: Mapping[str, Any]) -> None:
    refuse_unknown(changed, EDITABLE)
    if "name" in changed:
        gateway.name = clean_text(changed["name"], field="name", limit=100, required=True)
    for field in SETTINGS:
        if field in changed:
            setattr(gateway, field, changed[field])
    gateway.full_clean()


def _issue_token(gateway: Gateway) -> IssuedToken:
    value = tokens.generate(TokenKind.GATEWAY_TOKEN)
    token = GatewayToken.objects.create(
        gateway=gateway, digest=tokens.digest(value), hint=tokens.hint(value), created_at=clock.now()
    )
    return IssuedToken(gateway, token, value)


def _changed(gateway: Gateway, change: Narrowing) -> None:
    change.of(Kind.GATEWAY, gateway.pk)
    gateway.narrowing = change


def _about(gateway: Gateway) -> Subject:
    return Subject("gateway", gateway.pk, gateway.name)

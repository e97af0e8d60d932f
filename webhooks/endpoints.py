"""The one writer of webhook endpoints: create, edit, rotate the secret, test, disable, enable, send again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from access.models import Member
from access.preconditions import Precondition, tag_of
from access.refusals import Conflict
from access.rules import Role, require
from access.text import clean_text, refuse_unknown
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.recording import Subject, changes, record
from webhooks import addresses, signing
from webhooks.addresses import Refused
from webhooks.happenings import CHOOSABLE, NoticeType
from webhooks.models import Delivery, DeliveryState, EndpointSecret, WebhookEndpoint
from webhooks.queueing import announce, hand_over

EDITABLE: Final = frozenset({"name", "url", "description", "event_types"})
DEFAULT_OVERLAP: Final = timedelta(days=1)
LONGEST_OVERLAP: Final = timedelta(days=30)
# What waits for an endpoint that is disabled is not sent; it can be sent again later.
DISABLED_NOTE: Final = "The endpoint was disabled."


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """An endpoint and its new signing secret, which is shown only now."""

    endpoint: WebhookEndpoint
    secret: EndpointSecret
    value: str

    def __repr__(self) -> str:
        return f"IssuedSecret({self.secret.hint})"


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What was found when an address was looked up: nothing wrong, or why nothing may be sent to it."""

    url: str
    refused: ValidationError | None = None


def look_up(url: str) -> LookedUp:
    """Look up an address, which takes seconds at worst: for who is about to begin a transaction around a verb."""
    try:
        addresses.check(clean_text(url, field="url", limit=10_000, required=True))
    except Refused as refused:
        return LookedUp(url, ValidationError({"url": ValidationError(str(refused), code=refused.code)}))
    except ValidationError as refused:
        return LookedUp(url, refused)
    return LookedUp(url)


def create_endpoint(
    *, actor: Actor, name: str, url: str, looked_up: LookedUp | None = None, **particulars: Any
) -> IssuedSecret:
    """Make an endpoint and return it with its signing secret, shown this once. particulars: anything in EDITABLE.

    looked_up: what `look_up` has said of this very address, where the caller is in a transaction by now.
    Errors: Forbidden; ValidationError at the field, also for an address that nothing may be sent to.
    """
    require(actor, "webhooks.add_webhookendpoint")
    endpoint = WebhookEndpoint(owner=_member(actor), created_at=clock.now())
    # Before the transaction: names are looked up.
    _check_url(url, looked_up)
    _apply(endpoint, {"name": name, "url": url, **particulars})
    with transaction.atomic():
        endpoint.full_clean()
        endpoint.save(force_insert=True)
        issued = _issue_secret(endpoint)
        record(
            AuditAction.WEBHOOK_CREATED, actor, _about(endpoint), {}, snapshot(endpoint), {"secret": issued.secret.hint}
        )
    return issued


def edit_endpoint(
    *,
    actor: Actor,
    endpoint_id: UUID,
    changed: Mapping[str, Any],
    looked_up: LookedUp | None = None,
    expected: Precondition | None = None,
) -> WebhookEndpoint:
    """Give an endpoint other particulars (EDITABLE); what is not named stays. Nothing new is no entry.

    looked_up: as for `create_endpoint`. Errors: WebhookEndpoint.DoesNotExist; Forbidden; PreconditionFailed where it
    is not in the state that is expected; ValidationError at the field.
    """
    if "url" in changed:
        require(actor, "webhooks.change_webhookendpoint")
        _check_url(changed["url"], looked_up)
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        require(actor, "webhooks.change_webhookendpoint", endpoint)
        _require_state(endpoint, expected)
        before = snapshot(endpoint)
        _apply(endpoint, changed)
        endpoint.full_clean()
        old, new = changes(before, snapshot(endpoint))
        if new:
            if "url" in new:
                endpoint.failing_since = None  # of the other address nothing is known
            endpoint.save()
            record(AuditAction.WEBHOOK_EDITED, actor, _about(endpoint), old, new)
    return endpoint


def rotate_secret(
    *,
    actor: Actor,
    endpoint_id: UUID,
    overlap: timedelta = DEFAULT_OVERLAP,
    expected: Precondition | None = None,
) -> IssuedSecret:
    """Give an endpoint a new signing secret and return it, shown this once.

    overlap: how long the old one signs beside it, 0 = not at all, at most LONGEST_OVERLAP; older ones that still do
    are cut to the same instant.
    Errors: WebhookEndpoint.DoesNotExist; Forbidden; PreconditionFailed; ValidationError.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        message = f"Between 0 and {int(LONGEST_OVERLAP.total_seconds()):,} seconds."
        raise ValidationError({"overlap_seconds": ValidationError(message, code="out_of_range")})
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        require(actor, "webhooks.rotate_secret_webhookendpoint", endpoint)
        _require_state(endpoint, expected)
        until = clock.now() + overlap
        endpoint.secrets.filter(valid_until__gt=until).update(valid_until=until)
        endpoint.secrets.filter(valid_until__isnull=True).update(valid_until=until)
        issued = _issue_secret(endpoint)
        detail = {"secret": issued.secret.hint, "old_signs_until": until}
        record(AuditAction.WEBHOOK_SECRET_ROTATED, actor, _about(endpoint), detail=detail)
    return issued


def disable_endpoint(
    *, actor: Actor, endpoint_id: UUID, reason: str = "", expected: Precondition | None = None
) -> WebhookEndpoint:
    """Send nothing more to an endpoint; what waits for it counts as failed and can be sent again.

    Errors: Forbidden; PreconditionFailed; Conflict `already_disabled`; ValidationError.
    """
    reason = clean_text(reason, field="reason", limit=300)
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        require(actor, "webhooks.disable_webhookendpoint", endpoint)
        _require_state(endpoint, expected)
        if endpoint.disabled_at is not None:
            raise Conflict(
                "already_disabled",
                "This endpoint is disabled already.",
                permission="webhooks.disable_webhookendpoint",
                obj=endpoint,
            )
        stop(endpoint, actor, reason)
    return endpoint


def stop(endpoint: WebhookEndpoint, actor: Actor, reason: str) -> None:
    """Disable an endpoint that the caller has locked, and tell its owner if it was not a person who did it."""
    endpoint.disabled_at, endpoint.disabled_reason = clock.now(), reason
    endpoint.save(update_fields=["disabled_at", "disabled_reason"])
    waiting = endpoint.deliveries.filter(state=DeliveryState.PENDING)
    stopped = waiting.update(
        state=DeliveryState.FAILED, next_attempt_at=None, finished_at=endpoint.disabled_at, note=DISABLED_NOTE
    )
    entry = record(
        AuditAction.WEBHOOK_DISABLED,
        actor,
        _about(endpoint),
        {"disabled_at": None},
        {"disabled_at": endpoint.disabled_at, "reason": reason},
        {"undelivered": stopped},
    )
    if actor.kind is ActorKind.SYSTEM:
        facts = {"id": endpoint.pk, "name": endpoint.name, "disabled_reason": reason, "undelivered": stopped}
        announce(
            NoticeType.ENDPOINT_DISABLED, f"entry:{entry.pk}", {"webhook_endpoint": facts}, mail_to=_owners(endpoint)
        )


def enable_endpoint(*, actor: Actor, endpoint_id: UUID, expected: Precondition | None = None) -> WebhookEndpoint:
    """Send to a disabled endpoint again, from now on.

    Errors: Forbidden; PreconditionFailed; Conflict `not_disabled`.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        permission = "webhooks.enable_webhookendpoint"
        require(actor, permission, endpoint)
        _require_state(endpoint, expected)
        if endpoint.disabled_at is None:
            raise Conflict("not_disabled", "This endpoint is not disabled.", permission=permission, obj=endpoint)
        since = endpoint.disabled_at
        endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since = None, "", None
        endpoint.save(update_fields=["disabled_at", "disabled_reason", "failing_since"])
        record(AuditAction.WEBHOOK_ENABLED, actor, _about(endpoint), {"disabled_at": since}, {"disabled_at": None})
    return endpoint


def send_test(*, actor: Actor, endpoint_id: UUID) -> Delivery:
    """Queue a notice of type `webhook_endpoint.test` for this endpoint alone, and return its delivery.

    Errors: Forbidden; Conflict `endpoint_disabled`.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        permission = "webhooks.test_webhookendpoint"
        require(actor, permission, endpoint)
        _refuse_disabled(endpoint, permission)
        facts = {"webhook_endpoint": {"id": endpoint.pk, "name": endpoint.name}, "asked_by": actor.label}
        notice = announce(NoticeType.TEST, f"test:{uuid4()}", facts, only=endpoint)
        record(AuditAction.WEBHOOK_TESTED, actor, _about(endpoint), detail={"notice": notice.pk if notice else ""})
    return Delivery.objects.get(notice=notice)


def redeliver(
    *, actor: Actor, endpoint_id: UUID, delivery_id: UUID | None = None, since: datetime | None = None
) -> int:
    """Queue again one delivery of an endpoint, or all that failed of those queued `since`; return how many.

    One that is waiting already is not touched. The notice keeps its id.
    Errors: Forbidden; Conflict `endpoint_disabled`.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        permission = "webhooks.redeliver_webhookendpoint"
        require(actor, permission, endpoint)
        _refuse_disabled(endpoint, permission)
        one = {"pk": delivery_id} if delivery_id is not None else {"state": DeliveryState.FAILED}
        chosen = endpoint.deliveries.exclude(state=DeliveryState.PENDING).filter(**one)
        if since is not None:
            chosen = chosen.filter(created_at__gte=since)
        now = clock.now()
        # In one statement: of an endpoint that failed for days there may be more than it has room for ids. Many are
        # due since they were queued: the sweep hands out the oldest first, as far as several workers keep the order.
        queued = chosen.update(
            state=DeliveryState.PENDING,
            tries=0,
            next_attempt_at=now if delivery_id is not None else F("created_at"),
            finished_at=None,
            claimed_until=None,
            note="",
            handed_at=now if delivery_id is not None else None,
        )
        detail = {"deliveries": queued, "since": since}
        record(AuditAction.WEBHOOK_REDELIVERED, actor, _about(endpoint), detail=detail)
        if delivery_id is not None and queued:
            hand_over([delivery_id])
    return queued


def seal_anew() -> int:
    """Keep every secret under the present secret key, so that an older one can be let go; return how many were not."""
    done = 0
    for secret in EndpointSecret.objects.all():
        sealed = signing.sealed_anew(secret.sealed)
        if sealed is not None:
            done += EndpointSecret.objects.filter(pk=secret.pk, sealed=secret.sealed).update(sealed=sealed)
    return done


def snapshot(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return what the audit log says of an endpoint."""
    return {field: getattr(endpoint, field) for field in ("name", "url", "description", "event_types")}


def state_tag(endpoint: WebhookEndpoint) -> str:
    """Return the tag of an endpoint's state (access/preconditions.py). What deliveries came to is no part of it."""
    secrets = list(EndpointSecret.objects.filter(endpoint=endpoint))
    facts = {"id": endpoint.pk, **snapshot(endpoint), "disabled_at": endpoint.disabled_at}
    facts |= {"disabled_reason": endpoint.disabled_reason}
    facts["secrets"] = sorted((secret.pk, str(secret.valid_until)) for secret in secrets)
    now = clock.now()
    return tag_of(facts, by_time=f"{sum(secret.signs_at(now) for secret in secrets)}")


def _apply(endpoint: WebhookEndpoint, changed: Mapping[str, Any]) -> None:
    refuse_unknown(changed, EDITABLE)
    if "name" in changed:
        endpoint.name = clean_text(changed["name"], field="name", limit=100, required=True)
    if "description" in changed:
        endpoint.description = clean_text(changed["description"], field="description", limit=2_000, lines=True)
    if "event_types" in changed:
        endpoint.event_types = _clean_types(changed["event_types"])
    if "url" in changed:
        endpoint.url = changed["url"].strip()


def _check_url(url: str, known: LookedUp | None) -> None:
    found = known if known is not None and known.url == url else look_up(url)
    if found.refused is not None:
        raise found.refused


def _require_state(endpoint: WebhookEndpoint, expected: Precondition | None) -> None:
    if expected is not None:
        expected.require(endpoint, state_tag(endpoint))


def _clean_types(names: Iterable[str]) -> list[str]:
    chosen = set(names)
    if unknown := sorted(chosen - set(CHOOSABLE)):
        message = f"There is no type “{unknown[0][:64]}”."
        raise ValidationError({"event_types": ValidationError(message, code="unknown_type")})
    # In the order of their list, so that the same choice is the same value.
    return [name.value for name in CHOOSABLE if name in chosen]


def _issue_secret(endpoint: WebhookEndpoint) -> IssuedSecret:
    value = signing.generate()
    secret = EndpointSecret.objects.create(
        endpoint=endpoint, sealed=signing.seal(value), hint=signing.hint(value), created_at=clock.now()
    )
    return IssuedSecret(endpoint, secret, value)


def _locked(endpoint_id: UUID) -> WebhookEndpoint:
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)


def _refuse_disabled(endpoint: WebhookEndpoint, permission: str) -> None:
    if endpoint.disabled_at is not None:
        message = "This endpoint is disabled. Enable it first."
        raise Conflict("endpoint_disabled", message, permission=permission, obj=endpoint)


def _owners(endpoint: WebhookEndpoint) -> list[Member]:
    """Return who is told: the owner; where there is none that still may see it, every Admin."""
    if endpoint.owner is not None and endpoint.owner.may("webhooks.view_webhookendpoint"):
        return [endpoint.owner]
    return list(Member.objects.active().filter(role=Role.ADMIN))


def _member(actor: Actor) -> Member | None:
    return actor.authority if actor.kind is ActorKind.MEMBER and isinstance(actor.authority, Member) else None


def _about(endpoint: WebhookEndpoint) -> Subject:
    return Subject("webhook_endpoint", endpoint.pk, endpoint.name)

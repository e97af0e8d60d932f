"""How what is queued gets out: claimed by one worker, tried with growing pauses for three days, every attempt kept.

Nothing is sent inside a transaction. A worker that dies in the midst has claimed its delivery for CLAIM only; then
another one sends it again, under the same id: at least once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import uniform
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from audit import clock
from audit.actor import Actor
from webhooks import mail, posting, signing
from webhooks.endpoints import DISABLED_NOTE, stop
from webhooks.models import Attempt, Delivery, DeliveryState, WebhookEndpoint
from webhooks.posting import Answer
from webhooks.queueing import hand_over
from webhooks.signing import Unreadable

# The pauses that Standard Webhooks suggests ("Deliverability and reliability"): 75.6 hours in all.
PAUSES: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
# A pause is longer by up to this part of it, so that what failed together does not come again together.
JITTER: Final = 0.1
# An endpoint that has accepted nothing for so long is given up.
PATIENCE: Final = timedelta(days=3)
# Longer than any attempt takes.
CLAIM: Final = timedelta(seconds=45)
# A worker that was asked and has not begun by then is asked again.
HANDED: Final = timedelta(seconds=60)
# Deliveries that one sweep hands out; and of those of an endpoint that fails.
AT_ONCE: Final = 500
PROBES: Final = 1
# How exactly an endpoint's last delivery is kept.
EXACT_TO: Final = timedelta(seconds=10)
GONE: Final = 410


def hand_out_due() -> int:
    """Ask the workers for what is due and nobody is at; return how many deliveries were handed out."""
    now = clock.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    unasked = Q(handed_at__isnull=True) | Q(handed_at__lte=now - HANDED)
    due = Delivery.objects.filter(free, unasked, state=DeliveryState.PENDING, next_attempt_at__lte=now)
    due = due.order_by("next_attempt_at", "pk")
    well = due.filter(Q(endpoint__isnull=True) | Q(endpoint__failing_since__isnull=True))
    ids = list(well.values_list("pk", flat=True)[:AT_ONCE])
    for endpoint in WebhookEndpoint.objects.filter(failing_since__isnull=False, disabled_at__isnull=True):
        ids += due.filter(endpoint=endpoint).values_list("pk", flat=True)[:PROBES]
    with transaction.atomic():
        Delivery.objects.filter(pk__in=ids).update(handed_at=now)
        hand_over(ids)
    return len(ids)


def deliver(delivery_id: UUID) -> Attempt | None:
    """Try a delivery that is due, and keep what came of it; None where it is not due, or somebody else is at it."""
    claimed = claim(delivery_id)
    if claimed is None:
        return None
    delivery = Delivery.objects.select_related("notice", "endpoint", "recipient").get(pk=delivery_id)
    started = clock.now()
    if delivery.endpoint is None:
        return keep(delivery, claimed, started, mail.send(delivery))
    if delivery.endpoint.disabled_at is not None:
        _give_up(delivery, DISABLED_NOTE)
        return None
    return keep(delivery, claimed, started, _post(delivery, delivery.endpoint, started))


def forget(kept_for: timedelta, *, batch: int = 1_000) -> int:
    """Delete notices that are older than `kept_for`, with what became of them; return how many rows went.

    What still waits stays, and so does the notice by which an idle key is known to have been told of.
    """
    from webhooks.happenings import NoticeType
    from webhooks.models import Notice

    old = Notice.objects.filter(occurred_at__lt=clock.now() - kept_for).exclude(type=NoticeType.KEY_IDLE)
    old = old.exclude(deliveries__state=DeliveryState.PENDING).order_by("occurred_at")
    forgotten = 0
    while ids := list(old.values_list("pk", flat=True)[:batch]):
        forgotten += Notice.objects.filter(pk__in=ids).delete()[0]
    return forgotten


def claim(delivery_id: UUID) -> datetime | None:
    """Take the delivery for CLAIM, and return until when; None where it is not to be had. Compare and swap."""
    now = clock.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    until = now + CLAIM
    due = Delivery.objects.filter(free, pk=delivery_id, state=DeliveryState.PENDING, next_attempt_at__lte=now)
    return until if due.update(claimed_until=until) == 1 else None


def _post(delivery: Delivery, endpoint: WebhookEndpoint, at: datetime) -> Answer:
    notice = delivery.notice
    try:
        secrets = [signing.open_sealed(secret.sealed) for secret in endpoint.secrets.all() if secret.signs_at(at)]
    except Unreadable as error:
        return Answer(None, str(error), 0)
    return posting.post(endpoint.url, notice.body, signing.signed_headers(secrets, notice.pk, at, notice.body))


def keep(delivery: Delivery, claimed: datetime, at: datetime, answer: Answer) -> Attempt:
    """Write the attempt and what follows from it, together."""
    with transaction.atomic():
        # The endpoint first, then the delivery: as `disable` takes them.
        endpoint = _locked_endpoint(delivery, answer)
        row = Delivery.objects.select_for_update(of=("self",), no_key=True).get(pk=delivery.pk)
        attempt = Attempt.objects.create(
            delivery=row,
            at=at,
            status=answer.status,
            duration_ms=answer.duration_ms,
            error=answer.error,
            answer=answer.text,
        )
        if answer.arrived and row.state != DeliveryState.DELIVERED:
            row.state, row.next_attempt_at, row.finished_at, row.note = DeliveryState.DELIVERED, None, clock.now(), ""
        elif not answer.arrived and row.state == DeliveryState.PENDING and row.claimed_until == claimed:
            _plan_next(row)
        row.claimed_until = None if row.claimed_until == claimed else row.claimed_until
        row.save()
        if endpoint is not None and not answer.arrived:
            _count_failure(endpoint, answer, at)
    if delivery.endpoint is not None and answer.arrived:
        _count_success(delivery.endpoint, at)
    return attempt


def _locked_endpoint(delivery: Delivery, answer: Answer) -> WebhookEndpoint | None:
    if delivery.endpoint_id is None or answer.arrived:
        return None
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=delivery.endpoint_id)


def _plan_next(row: Delivery) -> None:
    """Say when a failed delivery is tried again; after the last pause it has failed."""
    row.tries += 1
    row.handed_at = None
    if row.tries > len(PAUSES):
        row.state, row.next_attempt_at, row.finished_at = DeliveryState.FAILED, None, clock.now()
    else:
        row.next_attempt_at = clock.now() + PAUSES[row.tries - 1] * uniform(1, 1 + JITTER)  # noqa: S311  # no secret


def _count_failure(endpoint: WebhookEndpoint, answer: Answer, at: datetime) -> None:
    if endpoint.disabled_at is not None:
        return
    if endpoint.failing_since is None:
        endpoint.failing_since = at
        endpoint.save(update_fields=["failing_since"])
    actor = Actor.system("webhooks")
    if answer.status == GONE:
        stop(endpoint, actor, "It answered 410: it is gone.")
    elif at - endpoint.failing_since >= PATIENCE:
        stop(endpoint, actor, f"It has accepted nothing for {PATIENCE.days} days; at last: {answer.error}"[:300])


def _count_success(endpoint: WebhookEndpoint, at: datetime) -> None:
    # Most deliveries write nothing here: the row is every worker's.
    news = Q(failing_since__isnull=False) | Q(delivered_at__isnull=True) | Q(delivered_at__lt=at - EXACT_TO)
    WebhookEndpoint.objects.filter(news, pk=endpoint.pk).update(failing_since=None, delivered_at=at)


def _give_up(delivery: Delivery, note: str) -> None:
    Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.PENDING).update(
        state=DeliveryState.FAILED, next_attempt_at=None, claimed_until=None, finished_at=clock.now(), note=note
    )

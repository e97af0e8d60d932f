"""The demo's webhook endpoint, and what became of the notices for it: the demo itself never sends anything."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from access.actors import member_actor
from audit import clock
from webhooks import delivering
from webhooks.endpoints import LookedUp, create_endpoint, disable_endpoint
from webhooks.models import Delivery, DeliveryState
from webhooks.posting import Answer

if TYPE_CHECKING:
    from keeptrusts.demo import Company

URL: Final = "https://hooks.example.com/keeptrusts"


def plan_notices(company: Company) -> None:
    """Let a receiver be told what happened for some days, and then be disabled."""
    admin = member_actor(company.admin, credential="session", ip="10.8.0.12")
    made = company.ago(12)
    create = partial(
        create_endpoint,
        actor=admin,
        name="security-events",
        url=URL,
        description="The security team's event bus.",
        # Nobody is asked about a name that is reserved (RFC 2606).
        looked_up=LookedUp(URL),
    )
    company.later(made, create)
    for hours in range(1, 11 * 24, 6):
        company.later(made + timedelta(hours=hours), lambda: _as_if_sent(company))
    company.later(
        # After everything else that happens.
        company.now - timedelta(minutes=3),
        lambda: disable_endpoint(
            actor=admin,
            endpoint_id=Delivery.objects.filter(endpoint__isnull=False).values_list("endpoint", flat=True)[0],
            reason="The event bus moves to another address.",
        ),
    )


def _as_if_sent(company: Company) -> None:
    """What the receiver would have answered: mostly at once, now and then after a fault of its own."""
    due = Delivery.objects.filter(state=DeliveryState.PENDING, next_attempt_at__lte=clock.now())
    for delivery in due.select_related("endpoint", "notice").order_by("created_at", "pk"):
        claimed = delivering.claim(delivery.pk)
        if claimed is not None:
            well = company.random.random() > 0.1
            answer = Answer(204, "", company.random.randint(30, 220)) if well else Answer(503, "Answered 503.", 1_204)
            delivering.keep(delivery, claimed, clock.now(), answer)

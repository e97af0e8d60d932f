from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.conf import settings

from webhooks import delivering, endpoints, sweeps


@shared_task
def deliver(delivery_id: str) -> None:
    delivering.deliver(UUID(delivery_id))


@shared_task
def hand_out_due() -> None:
    delivering.hand_out_due()


@shared_task
def warn() -> None:
    sweeps.warn()


@shared_task
def tidy() -> None:
    delivering.forget(settings.KEEPTRUSTS_NOTICE_RETENTION)
    endpoints.seal_anew()

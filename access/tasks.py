from __future__ import annotations

from celery import shared_task

from access import idempotency


@shared_task
def forget_idempotency() -> None:
    idempotency.forget()

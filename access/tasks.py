from __future__ import annotations

from celery import shared_task
from django.core.management import call_command

from access import idempotency


@shared_task
def forget_idempotency() -> None:
    idempotency.forget()


@shared_task
def forget_sessions() -> None:
    """Delete the sessions that are over."""
    call_command("clearsessions")

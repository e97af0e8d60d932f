from __future__ import annotations

from celery import shared_task

from access import idempotency
from access.session_store import SessionStore


@shared_task
def forget_idempotency() -> None:
    idempotency.forget()


@shared_task
def forget_sessions() -> None:
    """Delete the sessions that are over."""
    SessionStore.clear_expired()

from __future__ import annotations

from celery import shared_task

from gateways import processes


@shared_task
def forget_invalidations() -> None:
    processes.forget()

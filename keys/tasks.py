from __future__ import annotations

from celery import shared_task

from keys import sweeps


@shared_task
def expire_keys() -> None:
    sweeps.expire_due()


@shared_task
def close_grace_periods() -> None:
    sweeps.close_due_grace()


@shared_task
def revoke_idle_keys() -> None:
    sweeps.revoke_idle()

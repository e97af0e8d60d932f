from __future__ import annotations

from celery import shared_task

from usage import rollup


@shared_task
def roll_up() -> None:
    rollup.roll_up()
    rollup.forget_flushes()

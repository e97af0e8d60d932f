from __future__ import annotations

from celery import shared_task

from audit import clock
from usage import compaction, partitions, retention, rollup


@shared_task
def roll_up() -> None:
    rollup.roll_up()
    rollup.forget_flushes()


@shared_task
def tend_events() -> None:
    partitions.make_days(clock.now().date())
    retention.forget_events()


@shared_task
def compact_buckets() -> None:
    compaction.compact()

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from celery import shared_task

from audit import clock
from usage import compaction, partitions, recounting, retention, rollup, tallies

# Seconds. How long a recount that found somebody else at the tables waits, and how long its message holds.
LATER: Final = 60
NIGHT: Final = 8 * 60 * 60


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


@shared_task
def recount(day: str = "") -> None:
    """Recount one day and send the message for the next: a worker is never busy with a whole month of events."""
    today = date.fromisoformat(day) if day else recounting.first_day()
    if not recounting.recount(today):
        recount.apply_async((today.isoformat(),), countdown=LATER, expires=NIGHT)
    elif today < clock.now().date():
        recount.apply_async(((today + timedelta(days=1)).isoformat(),), expires=NIGHT)


@shared_task
def add_up_tallies() -> None:
    tallies.add_up()

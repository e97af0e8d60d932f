"""What runs by the clock. Static and in UTC: it is part of the code, not of the database.

Nothing here decides anything: time has already decided, and the jobs record it. So a run that was missed is made up
for by the next one, and every message expires before it can pile up behind a worker that stands still.
"""

from __future__ import annotations

from typing import TypedDict

from celery.schedules import crontab

MINUTE = 60
HOUR = 60 * MINUTE


class Options(TypedDict):
    expires: float


class Entry(TypedDict):
    task: str
    schedule: float | crontab
    options: Options


def every(seconds: float, task: str) -> Entry:
    """Return the beat entry that sends `task` at this interval, each message void when the next ones are due."""
    # Short intervals get a little longer, or a worker that is busy for some seconds would never see a valid one.
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds, 10)}}


def nightly(hour: int, task: str) -> Entry:
    """Return the beat entry that sends `task` once a day at this hour."""
    return {"task": task, "schedule": crontab(hour=str(hour), minute="10"), "options": {"expires": 12 * HOUR}}


BEAT_SCHEDULE: dict[str, Entry] = {
    "seal the audit log": every(3, "audit.tasks.seal"),
    "expire keys": every(15, "keys.tasks.expire_keys"),
    "close grace periods": every(15, "keys.tasks.close_grace_periods"),
    "revoke idle keys": every(30, "keys.tasks.revoke_idle_keys"),
    "add up tallies of usage": every(5, "usage.tasks.add_up_tallies"),
    "roll up usage": every(30, "usage.tasks.roll_up"),
    "forget invalidations": every(HOUR, "gateways.tasks.forget_invalidations"),
    "tend usage events": every(10 * MINUTE, "usage.tasks.tend_events"),
    "compact usage buckets": every(HOUR, "usage.tasks.compact_buckets"),
    "recount usage": nightly(2, "usage.tasks.recount"),
    "hand out notices": every(5, "webhooks.tasks.hand_out_due"),
    "queue warnings": every(30, "webhooks.tasks.warn"),
    "forget old notices": nightly(3, "webhooks.tasks.tidy"),
    "verify the audit log": nightly(4, "audit.tasks.verify"),
    "forget idempotency keys": every(HOUR, "access.tasks.forget_idempotency"),
    "forget sessions": every(24 * HOUR, "access.tasks.forget_sessions"),
}

from __future__ import annotations

import pytest
from celery.schedules import crontab
from django.conf import settings

from keeptrusts.celery import app
from keeptrusts.schedule import BEAT_SCHEDULE, HOUR

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", BEAT_SCHEDULE)
def test_every_entry_names_a_task_that_the_worker_knows(name: str) -> None:
    app.loader.import_default_modules()
    assert BEAT_SCHEDULE[name]["task"] in app.tasks


@pytest.mark.parametrize("name", BEAT_SCHEDULE)
def test_no_message_outlives_its_turn_by_much(name: str) -> None:
    entry = BEAT_SCHEDULE[name]
    interval = 24 * HOUR if isinstance(entry["schedule"], crontab) else entry["schedule"]
    assert 0 < entry["options"]["expires"] <= max(interval, 10)


def test_beat_uses_this_schedule() -> None:
    assert settings.CELERY_BEAT_SCHEDULE == BEAT_SCHEDULE
    assert app.conf.beat_schedule == BEAT_SCHEDULE

"""A sealed log is altered in random ways, each found; logs that nobody touched raise no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from tests.audit.test_signed_checkpoints import copied
from tests.audit.test_tampering import logs, tamper
from tests.faults.conftest import Fault

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900)]


@pytest.mark.fault("tampering", short=8, full=1_000)
def test_what_is_altered_is_found_and_nothing_else(fault: Fault) -> None:
    copied(12, Path(settings.KEEPTRUSTS_CHECKPOINT_FILE))
    touched, missed = tamper(fault.rounds)
    grown, alarms = logs(fault.rounds)
    fault.tried = touched + grown
    fault.wrong += [f"not found: {done}" for done in missed] + [f"a false alarm: {alarm}" for alarm in alarms]
    fault.notes.append(f"{touched} alterations, {len(missed)} not found; {grown} untouched logs, {len(alarms)} alarms")

"""One clock: the database's. A host whose own clock is wrong decides like the others (design §3.8)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import DatabaseError, connection, transaction

from audit import clock

pytestmark = pytest.mark.django_db


def database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
    assert isinstance(at, datetime)
    return at


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_reading", None)


@pytest.mark.postgresql
@pytest.mark.database_clock
@pytest.mark.parametrize("wrong_by", [timedelta(hours=-1), timedelta(hours=1), timedelta(days=900)])
@pytest.mark.usefixtures("unread")
def test_a_host_whose_clock_is_wrong_goes_by_the_databases(wrong_by: timedelta) -> None:
    with time_machine.travel(datetime.now(UTC) + wrong_by):
        before, told, after = database_time(), clock.now(), database_time()
    assert before - timedelta(seconds=1) < told < after + timedelta(seconds=1)


@pytest.mark.postgresql
@pytest.mark.database_clock
@pytest.mark.usefixtures("unread")
def test_the_host_clock_may_jump_between_two_readings() -> None:
    clock.now()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        # time-machine moves the monotonic clock too, which no real jump does: the reading is taken anew.
        told = clock.now()
    assert abs(told - database_time()) < timedelta(seconds=1)


@pytest.mark.postgresql
@pytest.mark.database_clock
@pytest.mark.usefixtures("unread")
def test_asking_for_the_time_never_spoils_a_transaction() -> None:
    with transaction.atomic():
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        # PostgreSQL answers nothing more in this transaction: the host's clock does, and nothing is raised.
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
        transaction.set_rollback(True)
    with transaction.atomic():
        assert abs(clock.now() - database_time()) < timedelta(seconds=1)


def test_a_clock_that_stands_does_so_for_its_own_block_alone() -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    with clock.standing_at(moment):
        assert clock.now() == moment
    assert clock.now() > moment

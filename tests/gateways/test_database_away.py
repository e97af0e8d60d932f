"""What gateways hear while PostgreSQL is away or restarts, and that nothing counted is lost by it.

Nothing is held in memory here; tests/gateways/test_lease.py is about that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from gateways.models import UsageSource
from keys.models import GatewayKey
from tests.factories import make_gateway, make_key
from tests.plane import INTROSPECT, Plane, question, running_plane
from usage.models import KeyMetrics

pytestmark = pytest.mark.postgresql


@pytest.fixture
def plane(transactional_db: None, settings: Settings) -> Iterator[Plane]:
    settings.KEEPTRUSTS_LEASE_SECONDS = 0
    with running_plane() as plane:
        yield plane


def cut_connections() -> None:
    """End every connection to the test's database but the test's own, as a restart does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def away() -> Iterator[None]:
    """Nobody can connect to the database, and who was, is not any more."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    # From another database: PostgreSQL lets nobody lock themselves out.
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cut_connections()
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_restart_of_the_database_is_not_noticed(plane: Plane) -> None:
    token, reporter, issued = make_gateway().value, make_gateway(usage_source=UsageSource.REPORT).value, make_key()
    event = {"occurred_at": datetime.now(UTC).isoformat(), "key_id": str(issued.key.id), "key_version": 1}
    for number in range(6):
        assert plane.authorize(token, issued.value).status == 200
        assert plane.report(reporter, [{**event, "id": str(number)}]).status == 200
        cut_connections()
    assert plane.authorize(token, issued.value).status == 200
    # A flush whose connection was cut says so, and the next one writes what it could not.
    while not flushed(plane):
        pass
    assert KeyMetrics.objects.get().total_requests == 13


def test_away_is_undecided_and_what_is_counted_is_kept(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    token, reporter, issued = make_gateway().value, make_gateway(usage_source=UsageSource.REPORT).value, make_key()
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    plane.run(plane.asking(headers=question(token, issued.value)))
    with away():
        assert plane.authorize(None, issued.value).status == 403
        for answer in (
            plane.authorize(token, issued.value),
            plane.authorize(token, None),
            plane.report(reporter, []),
            plane.ask("POST", INTROSPECT, headers=[*form, *question(token)], body=b"token=" + issued.value.encode()),
        ):
            assert (answer.status, answer.reason) == (503, "undecided")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["cache-control"] == "no-store"
    assert plane.authorize(token, issued.value).status == 200
    while not flushed(plane):
        pass
    assert KeyMetrics.objects.get().total_requests == 2
    assert issued.value not in caplog.text
    assert caplog.text.count("cannot be asked") <= 4


def test_a_flush_does_not_touch_the_row_of_the_key(plane: Plane) -> None:
    """Whoever rotates or revokes a key never waits for the counting of its requests."""
    token, issued = make_gateway().value, make_key()
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM keys_gatewaykey")
        (before,) = cursor.fetchone()
        plane.authorize(token, issued.value)
        plane.flush()
        cursor.execute("SELECT xmin::text FROM keys_gatewaykey")
        assert cursor.fetchone() == (before,)
    assert GatewayKey.objects.get().metrics.total_requests == 1


def flushed(plane: Plane) -> bool:
    engine = plane.application._engine
    assert engine is not None
    return plane.run(engine.counter.flush())

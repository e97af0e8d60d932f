"""What every test may rely on. Members, keys and the like come from tests/factories.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.programs import in_ci, missing_programs

# A secret of any kind, shouted or not.
MADE_UP = re.compile(r"kt_\w\w_\w{28,}", re.IGNORECASE)

pytest_plugins = ["tests.fixtures"]

# --- which tests run ------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, and only them")
    parser.addoption(
        "--faults", metavar="ROW", help="run this row of the fault table in full size (`all`: each of them)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only the tests of this run: slow or not, and those that care for this database."""
    home = connection.vendor
    row = config.getoption("--faults")

    def belongs(item: pytest.Item) -> bool:
        fault = item.get_closest_marker("fault")
        if row is not None and (fault is None or row not in {fault.args[0], "all"}):
            return False
        if row is None and fault is not None and "short" not in fault.kwargs:
            return False
        if (item.get_closest_marker("slow") is not None) != config.getoption("--slow"):
            return False
        homes = {name for name in ("sqlite", "postgresql") if item.get_closest_marker(name)}
        if item.get_closest_marker("once"):
            homes = {"sqlite"}
        return not homes or home in homes

    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = [item for item in items if belongs(item)]


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep made-up secrets out of the names of tests: these must be the same in every process of a run."""
    text = val.decode("latin-1") if isinstance(val, bytes) else val
    if not isinstance(text, str) or not MADE_UP.search(text):
        return None
    return MADE_UP.sub("secret", text)


def pytest_report_header() -> str:
    return f"database: {connection.vendor}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose programs (`needs`) are not here; in CI that is a failure."""
    marker = item.get_closest_marker("needs")
    missing = missing_programs(*marker.args) if marker else []
    if missing:
        words = "; ".join(f"{program.name} is not installed ({program.how_to_install})" for program in missing)
        pytest.fail(words, pytrace=False) if in_ci() else pytest.skip(words)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _host_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time-machine move the one clock on PostgreSQL as well; the clock's own tests keep the database's."""
    if not request.node.get_closest_marker("database_clock"):
        monkeypatch.setattr("audit.clock._from_database", lambda: datetime.now(UTC))


@pytest.fixture(autouse=True)
def _no_copies_of_others() -> Iterator[None]:
    """Let no test's log be compared with the copies of another's checkpoints."""
    copies = settings.KEEPTRUSTS_CHECKPOINT_FILE
    yield
    copies.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _no_exports_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with no export running: one that a test asked for and did not read would count until it is collected."""
    monkeypatch.setattr("audit.export_slots._running", {})


# --- the audit log is append-only, and a transactional test must still leave nothing behind ---------------------------


@pytest.fixture(scope="session", autouse=True)
def _flush_passes_audit_triggers() -> Iterator[None]:
    """Let the flush that ends a transactional test, and nothing else, empty the audit tables."""
    operations = type(connection.ops)
    flush = operations.execute_sql_flush
    allowance = {"postgresql": _triggers_off_postgresql, "sqlite": _triggers_off_sqlite}[connection.vendor]

    def flush_past_triggers(self: Any, sql_list: list[str]) -> None:
        with allowance(self.connection):
            flush(self, sql_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "execute_sql_flush", flush_past_triggers)
        yield


@contextmanager
def _triggers_off_postgresql(database: BaseDatabaseWrapper) -> Iterator[None]:
    with database.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            cursor.execute("SET session_replication_role = origin")


@contextmanager
def _triggers_off_sqlite(database: BaseDatabaseWrapper) -> Iterator[None]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit\\_%' ESCAPE '\\'"
        )
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {database.ops.quote_name(name)}")
        try:
            yield
        finally:
            for _, sql in triggers:
                cursor.execute(sql)

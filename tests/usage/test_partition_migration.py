"""An installation with events from before the partitions keeps all of them, and goes on as if they had been there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.processes import clean_environment, manage
from tests.served import own_database

pytestmark = pytest.mark.postgresql

DEFINITIONS = {
    "columns": "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
    " WHERE attrelid = 'usage_usageevent'::regclass AND attnum > 0 ORDER BY attnum",
    "indexes": "SELECT indexrelid::regclass::text AS name, indisunique,"
    " regexp_replace(pg_get_indexdef(indexrelid), ' ON (ONLY )?', ' ON ') AS definition"
    " FROM pg_index WHERE indrelid = 'usage_usageevent'::regclass AND NOT indisprimary ORDER BY 1",
    "constraints": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conrelid = 'usage_usageevent'::regclass AND contype <> 'p' ORDER BY 1",
}
# An event of each of the last forty days, and one of long ago.
EVENTS = """
INSERT INTO usage_usageevent (gateway_id, event_id, occurred_at, received_at, outcome, reason, decision_id, method,
    path, provider, model, operation)
SELECT (SELECT id FROM gateways_gateway), 'e-' || number, now() - number * interval '1 day', now(), 'denied',
    'key_unknown', '', '', '', '', '', '' FROM (SELECT generate_series(0, 39) UNION SELECT 400) AS numbers (number)
"""
GATEWAY = """
INSERT INTO gateways_gateway (id, name, usage_source, require_group, client_address, created_at)
VALUES (gen_random_uuid(), 'edge', 'report', false, 'header', now())
"""


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database of its own on the suite's server."""
    with own_database("partitions") as url:
        yield url


def migrate(url: str, folder: Path, *target: str) -> None:
    environment = clean_environment(
        DATABASE_URL=url, KEEPTRUSTS_SECRET_KEY="for-this-test-alone-" * 3, KEEPTRUSTS_DATA_DIR=str(folder)
    )
    manage(environment, "migrate", *target)


def asked(url: str, sql: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(sql).fetchall()


def test_events_from_before_move_into_their_days_and_nothing_else_changes(url: str, tmp_path: Path) -> None:
    migrate(url, tmp_path, "usage", "0002")
    with psycopg.connect(url) as connection:
        connection.execute(GATEWAY)
        connection.execute(EVENTS)
    every = "SELECT * FROM usage_usageevent ORDER BY id"
    events, definitions = asked(url, every), {name: asked(url, sql) for name, sql in DEFINITIONS.items()}
    migrate(url, tmp_path, "usage", "0003")
    assert asked(url, every) == events
    assert {name: asked(url, sql) for name, sql in DEFINITIONS.items()} == definitions
    assert asked(url, "SELECT count(*) AS lost FROM usage_usageevent_default") == [{"lost": 0}]
    (days,) = asked(url, "SELECT count(*) AS days FROM pg_inherits WHERE inhparent = 'usage_usageevent'::regclass")
    # The days with events, a week to come, and the default.
    assert days["days"] == 41 + 7 + 1
    with psycopg.connect(url) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO usage_usageevent SELECT * FROM usage_usageevent LIMIT 1")
        connection.rollback()
        connection.execute(EVENTS.replace("'e-'", "'later-'"))
    assert len({event["id"] for event in asked(url, every)}) == 82
    # Back and forth again: for the migrations before it, it is the same table.
    migrate(url, tmp_path, "usage", "0002")
    migrate(url, tmp_path, "usage", "0003")
    assert len(asked(url, every)) == 82

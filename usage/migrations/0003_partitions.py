"""On PostgreSQL the table of usage events becomes one that is partitioned by the day; its rows move along.

For Django nothing changes: the same columns, indexes and constraints, by the same names. Only the primary key is in
truth (id, occurred_at), because a partitioned table's unique indexes must hold the column that it is partitioned by.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

TABLE = "usage_usageevent"
OLD = f"{TABLE}_unpartitioned"
SEQUENCE = f"{TABLE}_id_seq"
# Around today, as usage/partitions.py keeps them.
DAYS_BACK, DAYS_AHEAD = 30, 7


def partition(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Make the partitions of the days with events and of those to come; with no events, the default one alone."""
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        if _is_partitioned(cursor):
            return
        cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        later = [*_index_definitions(cursor), *_foreign_keys(cursor)]
        cursor.execute(f"SELECT last_value FROM {SEQUENCE}")
        (last_id,) = cursor.fetchone()
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO {OLD}")
        cursor.execute(
            f"CREATE TABLE {TABLE} (LIKE {OLD} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (occurred_at)"
        )
        cursor.execute(f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT")
        for day in _days(cursor):
            until = day + timedelta(days=1)
            cursor.execute(
                f"CREATE TABLE {TABLE}_{day:%Y%m%d} PARTITION OF {TABLE} "
                f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{until} 00:00:00+00')"
            )
        cursor.execute(f"INSERT INTO {TABLE} SELECT * FROM {OLD}")
        cursor.execute(f"DROP TABLE {OLD}")
        cursor.execute(f"CREATE SEQUENCE {SEQUENCE} OWNED BY {TABLE}.id")
        cursor.execute(f"SELECT setval('{SEQUENCE}', %s)", [last_id])
        cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id SET DEFAULT nextval('{SEQUENCE}')")
        for partition in _partitions(cursor):
            cursor.execute(f"ALTER TABLE {partition} ALTER COLUMN id SET DEFAULT nextval('{SEQUENCE}')")
        cursor.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id, occurred_at)")
        for statement in later:
            cursor.execute(statement)
        cursor.execute(f"ANALYZE {TABLE}")


def _is_partitioned(cursor: Any) -> bool:
    cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", [TABLE])
    return bool(cursor.fetchone()[0])


def _index_definitions(cursor: Any) -> list[str]:
    cursor.execute(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary", [TABLE]
    )
    return [definition for (definition,) in cursor.fetchall()]


def _foreign_keys(cursor: Any) -> list[str]:
    cursor.execute(
        "SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid)) "
        "FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'",
        [TABLE],
    )
    return [definition for (definition,) in cursor.fetchall()]


def _days(cursor: Any) -> list[date]:
    cursor.execute(f"SELECT DISTINCT (occurred_at AT TIME ZONE 'UTC')::date FROM {OLD}")
    days = {day for (day,) in cursor.fetchall()}
    if days:
        today = datetime.now(UTC).date()
        days |= {today + timedelta(days=number) for number in range(-DAYS_BACK, DAYS_AHEAD + 1)}
    return sorted(days)


def _partitions(cursor: Any) -> list[str]:
    cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE])
    return [name for (name,) in cursor.fetchall()]


class Migration(migrations.Migration):
    dependencies = [("usage", "0002_tended_tables")]

    operations = [
        # Nothing to undo: for the migrations before it, it is the same table.
        migrations.RunPython(partition, migrations.RunPython.noop),
    ]

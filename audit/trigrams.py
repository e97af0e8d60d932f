"""Parts of words in long tables: trigram indexes, on PostgreSQL alone. What migrations make them with.

SQLite, which is for small installations, looks through its rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython
from django.db.migrations.state import StateApps


def trigrams(indexes: Mapping[str, tuple[str, str]]) -> RunPython:
    """Return the operation that makes an index for each column: its name, the table's and the column's.

    They serve what `icontains` is in SQL: UPPER("name"::text) LIKE UPPER('%…%'). Made concurrently, so that nobody who
    writes waits: the migration is not atomic.
    """

    def make(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        for name, (table, column) in indexes.items():
            # One that was interrupted is there, and of no use.
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            schema_editor.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON {table} USING gin (UPPER({column}::text) gin_trgm_ops)"
            )

    def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        for name in indexes:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

    return RunPython(make, drop)

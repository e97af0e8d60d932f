"""Searching and sorting many keys: trigrams on PostgreSQL for parts of words, and an index for each column to sort by.

SQLite, which is for small installations, gets the plain indexes and looks through its rows for parts of words.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

# What `icontains` is in SQL: UPPER("name"::text) LIKE UPPER('%…%').
TRIGRAMS = {
    "key_name_trigrams": ("keys_gatewaykey", "name"),
    "key_description_trigrams": ("keys_gatewaykey", "description"),
}


def make_trigrams(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for name, (table, column) in TRIGRAMS.items():
        # One that was interrupted is there, and of no use.
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        schema_editor.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {table} USING gin (UPPER({column}::text) gin_trgm_ops)"
        )


def drop_trigrams(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    for name in TRIGRAMS:
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


class Migration(migrations.Migration):
    # Concurrently: nobody who writes keys waits.
    atomic = False
    dependencies = [("keys", "0003_owner")]

    operations = [
        migrations.AddIndex("gatewaykey", models.Index(fields=["hint", "id"], name="key_hint")),
        migrations.AddIndex(
            "gatewaykey", models.Index(fields=["hint"], name="key_hint_start", opclasses=["varchar_pattern_ops"])
        ),
        migrations.AddIndex(
            "keyversion", models.Index(fields=["hint"], name="version_hint_start", opclasses=["varchar_pattern_ops"])
        ),
        migrations.RunPython(make_trigrams, drop_trigrams),
    ]

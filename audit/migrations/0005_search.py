"""Searching and sorting a long audit log: trigrams on PostgreSQL for parts of names, and an index to sort by who.

SQLite, which is for small installations, gets the plain index and looks through its rows for parts of words.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

# What `icontains` is in SQL: UPPER("object_label"::text) LIKE UPPER('%…%').
TRIGRAMS = {
    "audit_entry_object_trigrams": ("audit_auditentry", "object_label"),
    "audit_entry_actor_trigrams": ("audit_auditentry", "actor_label"),
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
    # Concurrently: nobody who writes entries waits.
    atomic = False
    dependencies = [("audit", "0004_grace_extended")]

    operations = [
        migrations.AddIndex("auditentry", models.Index(fields=["actor_label", "-id"], name="audit_entry_who")),
        migrations.RunPython(make_trigrams, drop_trigrams),
    ]

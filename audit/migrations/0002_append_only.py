"""The audit log is append-only for every client of the database, ours included.

On SQLite a REPLACE deletes without firing delete triggers (unless recursive_triggers is on), so inserting over an
existing row is refused as well. A trigger puts each new entry into the sealer's queue.
"""

from __future__ import annotations

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

# Each append-only table, with the condition under which a new row would replace an old one.
TABLES = {
    "audit_auditentry": "SELECT 1 FROM audit_auditentry WHERE id = NEW.id",
    "audit_auditleaf": 'SELECT 1 FROM audit_auditleaf WHERE "index" = NEW."index" OR entry_id = NEW.entry_id',
    "audit_auditcheckpoint": "SELECT 1 FROM audit_auditcheckpoint WHERE size = NEW.size",
}


def create_triggers(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in _statements(schema_editor.connection.vendor):
        # Without parameters a % is itself.
        schema_editor.execute(statement, params=None)


def drop_triggers(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    for table in TABLES:
        for event in ("update", "delete", "truncate") if on_postgresql else ("update", "delete", "replace"):
            on = f" ON {table}" if on_postgresql else ""
            schema_editor.execute(f"DROP TRIGGER {table}_no_{event}{on}", params=None)
    schema_editor.execute("DROP TRIGGER audit_auditentry_queue" + (" ON audit_auditentry" if on_postgresql else ""))
    if on_postgresql:
        schema_editor.execute("DROP FUNCTION audit_refuse_change")
        schema_editor.execute("DROP FUNCTION audit_queue_entry")


def _statements(vendor: str) -> list[str]:
    return _postgresql() if vendor == "postgresql" else _sqlite()


def _postgresql() -> list[str]:
    statements = [
        """
        CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
        """,
        """
        CREATE FUNCTION audit_queue_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO audit_unsealedentry (entry_id) VALUES (NEW.id);
            RETURN NULL;
        END $$
        """,
        "CREATE TRIGGER audit_auditentry_queue AFTER INSERT ON audit_auditentry "
        "FOR EACH ROW EXECUTE FUNCTION audit_queue_entry()",
    ]
    for table in TABLES:
        for event, level in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
            statements.append(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"FOR EACH {level} EXECUTE FUNCTION audit_refuse_change()"
            )
    return statements


def _sqlite() -> list[str]:
    statements = [
        "CREATE TRIGGER audit_auditentry_queue AFTER INSERT ON audit_auditentry "
        "BEGIN INSERT INTO audit_unsealedentry (entry_id) VALUES (NEW.id); END"
    ]
    for table, replaced in TABLES.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        statements += [
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({replaced}) {refuse}",
        ]
    return statements


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(create_triggers, drop_triggers)]

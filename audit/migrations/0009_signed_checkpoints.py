"""Checkpoints are numbered, chained and signed. Those of before are taken over in their order and signed now."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from audit.notes import NO_PREVIOUS, Statement
from audit.signing import signing_key

TABLE = "audit_checkpoint"


def take_over(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    before = apps.get_model("audit", "AuditCheckpoint").objects.order_by("size").iterator(2_000)
    model, previous = apps.get_model("audit", "Checkpoint"), NO_PREVIOUS
    for number, old in enumerate(before, start=1):
        statement = Statement(settings.KEEPTRUSTS_AUDIT_ORIGIN, old.size, bytes(old.root), number, previous, old.at)
        model.objects.create(
            number=number,
            size=old.size,
            root=old.root,
            peaks=old.peaks,
            at=old.at,
            note=statement.signed(signing_key()),
        )
        previous = statement.digest()


def create_triggers(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for event, level in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
            schema_editor.execute(
                f"CREATE TRIGGER {TABLE}_no_{event.lower()} BEFORE {event} ON {TABLE} "
                f"FOR EACH {level} EXECUTE FUNCTION audit_refuse_change()"
            )
        return
    refuse = f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
    replaces = f"EXISTS (SELECT 1 FROM {TABLE} WHERE number = NEW.number)"
    schema_editor.execute(f"CREATE TRIGGER {TABLE}_no_update BEFORE UPDATE ON {TABLE} {refuse}")
    schema_editor.execute(f"CREATE TRIGGER {TABLE}_no_delete BEFORE DELETE ON {TABLE} {refuse}")
    schema_editor.execute(f"CREATE TRIGGER {TABLE}_no_replace BEFORE INSERT ON {TABLE} WHEN {replaces} {refuse}")


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_policy")]
    operations = [
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
                ("root", models.BinaryField(max_length=32)),
                ("peaks", models.BinaryField()),
                ("at", models.DateTimeField()),
                ("note", models.TextField()),
            ],
            options={"indexes": [models.Index(fields=["size"], name="audit_checkpoint_size")]},
        ),
        migrations.CreateModel(
            name="CheckpointCopy",
            fields=[
                ("destination", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("number", models.BigIntegerField(default=0)),
                ("at", models.DateTimeField(null=True)),
                ("error", models.CharField(blank=True, max_length=300)),
            ],
        ),
        # The older ones stay what they were signed as: no way back.
        migrations.RunPython(take_over),
        migrations.RunPython(create_triggers),
        migrations.DeleteModel("AuditCheckpoint"),
    ]

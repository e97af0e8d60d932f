"""Which migrations may run while the old version serves."""

from __future__ import annotations

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently
from django.core.management import call_command
from django.db import models
from django.db.migrations import Migration
from django.db.migrations import operations as step
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now

from operations.hazards import hazards


def found(*steps: Operation) -> list[str]:
    migration = Migration("0002_next", "keys")
    migration.operations = list(steps)  # type: ignore[misc]  # as Django does it itself
    return hazards(migration)


INDEX = models.Index(fields=["name"], name="by_name")


@pytest.mark.parametrize(
    "added",
    [
        step.CreateModel("note", [("id", models.BigAutoField(primary_key=True))]),
        step.AddField("gatewaykey", "note", models.TextField(null=True)),
        step.AddField("gatewaykey", "noted_at", models.DateTimeField(db_default=Now())),
        step.AddIndex("consumergroup", INDEX),
        AddIndexConcurrently("gatewaykey", INDEX),
    ],
)
def test_what_only_adds_is_safe(added: Operation) -> None:
    assert found(added) == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (step.RemoveField("gatewaykey", "name"), "a release later"),
        (step.DeleteModel("gatewaykey"), "a release later"),
        (step.RenameField("gatewaykey", "name", "title"), "old name"),
        (step.AddField("gatewaykey", "note", models.TextField(default="")), "db_default"),
        (step.AlterField("gatewaykey", "name", models.TextField()), "under a lock"),
        (step.AddIndex("gatewaykey", INDEX), "CONCURRENTLY"),
        (
            step.AddConstraint("keyversion", models.CheckConstraint(condition=models.Q(number__gt=0), name="numbered")),
            "checked under a lock",
        ),
        (step.RunSQL("SELECT 1"), "read it"),
    ],
)
def test_what_the_old_version_would_notice_is_named(changed: Operation, word: str) -> None:
    (hazard,) = found(changed)
    assert word in hazard


def test_a_table_that_the_migration_makes_itself_is_nobodys_yet() -> None:
    model = step.CreateModel("Note", [("id", models.BigAutoField(primary_key=True))])
    assert found(model, step.AddField("note", "name", models.TextField(default="")), step.AddIndex("note", INDEX)) == []


@pytest.mark.django_db
def test_the_command_names_the_steps_that_are_due(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check_migrations")
    assert capsys.readouterr().out == "0 migrations are due; 0 steps need the old version to be stopped.\n"
    MigrationRecorder.Migration.objects.filter(app="audit", name="0002_append_only").delete()
    MigrationRecorder.Migration.objects.filter(app="audit", name__gt="0002").delete()
    with pytest.raises(SystemExit):
        call_command("check_migrations")
    assert "audit.0002_append_only: " in capsys.readouterr().out

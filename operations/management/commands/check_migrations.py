"""What the migrations that this database lacks would do to the version that serves meanwhile."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from operations.hazards import hazards


class Command(BaseCommand):
    help = (
        "Name the steps of the migrations that are due which must not run while the old version serves: it would "
        "fail, or wait for a lock. Exit status 1 if there is one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        executor = MigrationExecutor(connection)
        due = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
        found = [f"{migration}: {hazard}" for migration in due for hazard in hazards(migration)]
        for line in found:
            self.stdout.write(line)
        self.stdout.write(f"{len(due)} migrations are due; {len(found)} steps need the old version to be stopped.")
        if found:
            sys.exit(1)

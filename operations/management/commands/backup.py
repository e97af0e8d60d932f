"""A copy of an embedded installation's database, taken while it runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

# Pages at once, between which writers come in.
PAGES = 1_000


class Command(BaseCommand):
    help = (
        "Write a copy of the SQLite database to FILE while the console runs: one state of it, whole and checked. "
        "What else belongs to a backup: docs/operations.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a file that does not exist yet")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError(
                'This installation is on PostgreSQL: pg_dump --format=custom --file=FILE "$DATABASE_URL" '
                "(docs/operations.md)."
            )
        try:
            # Readable by the owner alone, and never over an older backup.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise CommandError(f"{file} cannot be made: {error.strerror}.") from error
        try:
            _copy(Path(settings.DATABASES["default"]["NAME"]), file)
        except sqlite3.Error as error:
            file.unlink()
            raise CommandError(f"The database was not copied: {error}.") from error
        self.stdout.write(f"{file}: {file.stat().st_size:,} bytes, checked.")


def _copy(database: Path, file: Path) -> None:
    """Copy by SQLite's online backup. Errors: sqlite3.Error, where it fails or the copy is not sound."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as source:
        # One state of it: pages that others write meanwhile are those of a later one.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(file)) as copy:
            source.backup(copy, pages=PAGES)
            (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"the copy is not sound: {verdict}")

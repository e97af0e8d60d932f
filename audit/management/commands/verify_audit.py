from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.evidence import EvidenceError, check, told
from audit.notes import NoteError, VerifierKey
from audit.signing import believed_keys
from audit.verification import verify


class Command(BaseCommand):
    help = (
        "Check that the audit log is what was written, or an evidence bundle of it, which needs no database. "
        "Exit status 1 if it is not; each problem on a line."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", nargs="?", type=Path, help="an evidence bundle; without it, the live log")
        parser.add_argument(
            "--public-key",
            action="append",
            default=[],
            metavar="KEY",
            help="who may have signed the checkpoints (`manage.py audit_key` prints it); may be said several times; "
            "without it, the keys of the settings",
        )
        parser.add_argument(
            "--copies",
            type=Path,
            metavar="FILE",
            help="copies of checkpoints to compare the live log with, instead of those of this host",
        )

    def handle(
        self, *args: Any, bundle: Path | None, public_key: list[str], copies: Path | None, **options: Any
    ) -> None:
        try:
            keys = [VerifierKey.parse(text) for text in public_key] or believed_keys()
        except NoteError as error:
            raise CommandError(f"--public-key: {error}.") from error
        try:
            if bundle is not None:
                self._bundle(bundle, keys)
            else:
                self._live(copies, keys)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from error

    def _bundle(self, bundle: Path, keys: list[VerifierKey]) -> None:
        try:
            with bundle.open("rb") as file:
                self.stdout.write(told(check(file, keys)))
        except EvidenceError as error:
            self.stdout.write(f"NOT PROVEN. {error}.")
            sys.exit(1)

    def _live(self, copies: Path | None, keys: list[VerifierKey]) -> None:
        verdict = verify(copies, keys)
        for problem in verdict.problems:
            self.stdout.write(f"PROBLEM {problem.code}: {problem.detail}")
        for gap in verdict.gaps:
            self.stdout.write(
                f"No checkpoint between {gap.since:%Y-%m-%d %H:%M:%S} and {gap.until:%Y-%m-%d %H:%M:%S} UTC."
            )
        pending = f", {verdict.pending:,} not sealed yet" if verdict.pending else ""
        if verdict.valid:
            compared = f", {verdict.copies:,} copies compared" if verdict.copies else ", no copies here to compare with"
            self.stdout.write(
                f"The audit log is untouched: {verdict.sealed:,} entries sealed{pending}; "
                f"{verdict.checkpoints:,} checkpoints checked{compared}."
            )
            return
        self.stdout.write(f"The audit log was altered: {len(verdict.problems)} problems, {verdict.sealed:,} entries.")
        sys.exit(1)

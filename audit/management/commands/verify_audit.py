from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from audit.verification import verify


class Command(BaseCommand):
    help = "Check that the sealed audit log is what was written. Exit status 1 if it is not; each problem on a line."

    def handle(self, *args: Any, **options: Any) -> None:
        verdict = verify()
        for problem in verdict.problems:
            self.stdout.write(f"PROBLEM {problem.code}: {problem.detail}")
        pending = f", {verdict.pending:,} not sealed yet" if verdict.pending else ""
        if verdict.valid:
            self.stdout.write(f"The audit log is untouched: {verdict.sealed:,} entries sealed{pending}.")
            return
        self.stdout.write(f"The audit log was altered: {len(verdict.problems)} problems, {verdict.sealed:,} entries.")
        sys.exit(1)

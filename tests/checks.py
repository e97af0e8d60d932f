"""What `script/test` runs: every check, then the suite on both homes, each step with its time; the sums at the end."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.rows import ROWS, explanation, homes_of
from tests.programs import in_ci, missing_programs
from tests.servers import ServerError, postgresql, redis

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
# Seconds, that a row of the fault table may take.
FAULT_TIMEOUT = 900
SQLITE, POSTGRESQL = "sqlite", "postgresql"
SUITES = {SQLITE: "tests on SQLite", POSTGRESQL: "tests on PostgreSQL and Redis"}

PRODUCTION = {
    "DATABASE_URL": "postgresql://keeptrusts:password@database.example.com/keeptrusts",
    "REDIS_URL": "redis://redis.example.com:6379/0",
    "KEEPTRUSTS_PUBLIC_URL": "https://keys.example.com",
}


@dataclass
class Outcome:
    """What one step came to."""

    step: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0


@dataclass
class Run:
    """All steps of one `script/test`."""

    folder: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def step(self, name: str, do: Callable[[], Outcome]) -> None:
        """Do one step with its heading and its time; an error in it is a failure of this step alone."""
        print(f"\n--- {name} " + "-" * (100 - len(name)), flush=True)
        started = time.monotonic()
        try:
            outcome = do()
        except ServerError as error:
            print(error, flush=True)
            outcome = Outcome(name, failed=1)
        outcome.seconds = time.monotonic() - started
        self.outcomes.append(outcome)

    def check(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        """Run a command that says by its exit status whether all is well."""

        def do() -> Outcome:
            ended = subprocess.run(command, cwd=ROOT, env=self.environment(environment or {}), check=False)
            return Outcome(name, passed=int(ended.returncode == 0), failed=int(ended.returncode != 0))

        self.step(name, do)

    def suite(self, home: str, *, slow: bool) -> None:
        """Run the tests, or the slow ones, in one home."""
        name = ("slow " if slow else "") + SUITES[home]

        def do() -> Outcome:
            report = self.folder / f"{home}.xml"
            options = ["--numprocesses", str(WORKERS), "--dist=loadgroup", f"--junitxml={report}"]
            options += ["--durations=5", "--durations-min=2"]
            with home_environment(home, redis_servers=WORKERS) as environment:
                status = run_pytest([*options, *(["--slow"] if slow else [])], environment)
            outcome = _read_report(name, report)
            if status == pytest.ExitCode.NO_TESTS_COLLECTED and slow:
                print("There is no slow test for this home.", flush=True)
            elif status and not outcome.failed:  # it broke down, or found nothing at all
                outcome.failed = 1
            return outcome

        self.step(name, do)

    def fault(self, row: str, home: str) -> None:
        """Run one row of the fault table in full size, in one home; its line is printed as it ends."""
        name = f"{row}, {SUITES[home].removeprefix('tests ')}: {ROWS[row][0]}"

        def do() -> Outcome:
            report = self.folder / f"{row}-{home}.xml"
            options = ["tests/faults", "--faults", row, "--quiet", f"--timeout={FAULT_TIMEOUT}", f"--junitxml={report}"]
            with home_environment(home, redis_servers=1) as environment:
                status = run_pytest(options, environment)
            outcome = _read_report(name, report)
            if status and not outcome.failed:
                outcome.failed = 1
            return outcome

        self.step(name, do)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """Return an environment for commands that load the settings, in a folder that is not the developer's."""
        ours = ("KEEPTRUSTS_", "DATABASE_URL", "REDIS_URL")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        secret = secrets.token_urlsafe(50)
        return inherited | {"KEEPTRUSTS_DATA_DIR": str(self.folder), "KEEPTRUSTS_SECRET_KEY": secret} | more

    def summary(self, left_out: Sequence[str]) -> int:
        """Print what the steps came to, with the sums as the last line; return the exit status."""
        print("\n--- summary " + "-" * 93)
        for outcome in self.outcomes:
            verdict = "FAILED" if outcome.failed else "ok"
            counts = f"{outcome.passed} passed, {outcome.failed} failed"
            skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
            print(f"{verdict:>8} {outcome.seconds:7.1f} s   {outcome.step}: {counts}{skipped}")
        print(f"         {sum(outcome.seconds for outcome in self.outcomes):7.1f} s   in all")
        for line in left_out:
            print(line)
        failed = sum(outcome.failed for outcome in self.outcomes)
        print(f"{sum(outcome.passed for outcome in self.outcomes)} passed, {failed} failed", flush=True)
        return int(failed > 0)


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    options, pytest_arguments = _arguments()
    if options.faults:
        return _fault_table(options.faults)
    homes = [home for home in SUITES if getattr(options, home)]
    if pytest_arguments:
        return _quick_run(homes or [SQLITE], pytest_arguments, slow=options.slow)
    with tempfile.TemporaryDirectory(prefix="keeptrusts-checks-") as folder:
        run = Run(Path(folder))
        if not homes and not options.slow:
            _static_checks(run)
        lacking = missing_programs()
        for home in homes or SUITES:
            if home == POSTGRESQL and missing_programs("postgresql", "redis"):
                continue
            run.suite(home, slow=options.slow)
        if lacking and in_ci():
            run.outcomes.append(Outcome("every program that the tests need", failed=len(lacking)))
        return run.summary([f"Left out: {p.purpose}: {p.name} is missing ({p.how_to_install})" for p in lacking])


def run_pytest(arguments: Sequence[str], environment: dict[str, str]) -> int:
    """Run pytest in this environment and return its exit status."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@contextmanager
def home_environment(home: str, *, redis_servers: int) -> Iterator[dict[str, str]]:
    """Give the environment in which the tests use this home; its servers run for the block."""
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    with ExitStack() as stack:
        if home == POSTGRESQL:
            urls = [stack.enter_context(redis()) for _ in range(redis_servers)]
            environment |= {"REDIS_URL": urls[0], "KEEPTRUSTS_TEST_REDIS_URLS": " ".join(urls)}
            environment["DATABASE_URL"] = stack.enter_context(postgresql())
        yield environment


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="script/test", allow_abbrev=False, add_help=False)
    for flag in ("--slow", "--sqlite", "--postgresql"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--faults", nargs="?", const="all", choices=["all", *ROWS], metavar="ROW")
    options, rest = parser.parse_known_args()
    if options.faults and rest:
        parser.error(f"--faults takes one row and nothing else:\n{explanation()}")
    return options, rest


def _fault_table(row: str) -> int:
    """Run one row of the fault table, or all of them, each by itself."""
    with tempfile.TemporaryDirectory(prefix="keeptrusts-faults-") as folder:
        run = Run(Path(folder))
        for name in ROWS if row == "all" else [row]:
            for home in homes_of(name):
                run.fault(name, home)
        return run.summary([])


def _quick_run(homes: Sequence[str], arguments: Sequence[str], *, slow: bool) -> int:
    """Run pytest with the developer's arguments; its own summary is the last word."""
    worst = 0
    for home in homes:
        with home_environment(home, redis_servers=WORKERS) as environment:
            worst = max(worst, run_pytest([*(["--slow"] if slow else []), *arguments], environment))
    return worst


def _static_checks(run: Run) -> None:
    python = sys.executable
    run.check("ruff format --check", python, "-m", "ruff", "format", "--check", ".")
    run.check("ruff check", python, "-m", "ruff", "check", ".")
    run.check("mypy --strict", python, "-m", "mypy", ".")
    run.check(
        "check --deploy, as in production",
        *(python, "manage.py", "check", "--deploy", "--fail-level", "WARNING"),
        environment=PRODUCTION,
    )
    run.check("dependencies: pinned, hashed, audited", python, "-m", "tests.dependencies")
    run.check("makemigrations --check", python, "manage.py", "makemigrations", "--check", "--dry-run")


def _read_report(step: str, report: Path) -> Outcome:
    """Return pytest's counts, from the report that it leaves for machines."""
    outcome = Outcome(step)
    if not report.exists():
        return outcome
    for suite in ET.parse(report).getroot().iter("testsuite"):
        tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        outcome.failed += failed
        outcome.skipped += skipped
        outcome.passed += tests - failed - skipped
    return outcome


if __name__ == "__main__":
    # The default action of SIGTERM would skip every `finally`, and with it the end of the servers.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

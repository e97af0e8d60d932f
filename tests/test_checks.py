"""What `script/test` says, and when it fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import checks
from tests.checks import SQLITE, Outcome, Run
from tests.programs import PROGRAMS

pytestmark = pytest.mark.once

REPORT = '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/></testsuites>'


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_last_line_is_the_sum_of_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, [Outcome("lint", passed=1), Outcome("tests", passed=40, failed=2, skipped=1)])
    assert run.summary([]) == 1
    assert last_line(capsys) == "41 passed, 2 failed"


def test_a_command_counts_as_one_by_its_exit_status(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.check("good", sys.executable, "-c", "")
    run.check("bad", sys.executable, "-c", "raise SystemExit(3)")
    assert [(outcome.passed, outcome.failed) for outcome in run.outcomes] == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("status", "report", "slow", "counts"),
    [
        (0, '<testsuites><testsuite tests="3" failures="0" errors="0" skipped="1"/></testsuites>', False, (2, 0, 1)),
        (1, REPORT, False, (3, 2, 2)),
        (3, None, False, (0, 1, 0)),
        (5, None, False, (0, 1, 0)),
        (5, None, True, (0, 0, 0)),
    ],
    ids=["passed", "some failed", "pytest broke down", "no test found", "no slow test found"],
)
def test_a_suite_counts_what_pytest_reports_and_finding_nothing_is_a_failure(
    status: int,
    report: str | None,
    slow: bool,
    counts: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_pytest(arguments: list[str], environment: dict[str, str]) -> int:
        assert ("--slow" in arguments) is slow
        if report:
            (tmp_path / f"{SQLITE}.xml").write_text(report)
        return status

    monkeypatch.setattr(checks, "run_pytest", run_pytest)
    run = Run(tmp_path)
    run.suite(SQLITE, slow=slow)
    (outcome,) = run.outcomes
    assert (outcome.passed, outcome.failed, outcome.skipped) == counts


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Redis, on which every test that can run passes."""

    @contextmanager
    def home_environment(home: str, *, redis_servers: int) -> Iterator[dict[str, str]]:
        assert home == SQLITE
        yield {}

    monkeypatch.setattr(checks, "missing_programs", lambda *names: [PROGRAMS["redis"]])
    monkeypatch.setattr(checks, "home_environment", home_environment)
    monkeypatch.setattr(checks, "run_pytest", lambda *_: 0)
    monkeypatch.setattr(checks, "_static_checks", lambda run: None)
    monkeypatch.setattr(sys, "argv", ["script/test"])
    monkeypatch.delenv("CI", raising=False)


@pytest.mark.usefixtures("without_redis")
def test_what_is_left_out_is_named_at_the_end_with_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.main() == 0
    *_, left_out, counts = capsys.readouterr().out.splitlines()
    assert "Left out: the suite on PostgreSQL and Redis" in left_out
    assert "apt-get install redis-server" in left_out
    assert counts == "0 passed, 0 failed"


@pytest.mark.usefixtures("without_redis")
def test_in_ci_what_is_left_out_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", "true")
    assert checks.main() == 1
    assert last_line(capsys) == "0 passed, 1 failed"

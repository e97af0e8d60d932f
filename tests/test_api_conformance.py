"""What the API answers is what its description says: Schemathesis calls every operation as each role, all checks on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from access.rules import Role
from tests.served import Served, own_database

# What a well-formed request may be answered: of a name that nobody has, or a time that has passed, no schema knows.
CONFIG: Final = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "400", "401", "403", "404", "409", "412", "422"]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422"]
missing_required_header.expected-statuses = ["400", "401", "403", "404", "406", "422"]
"""
# The caller's own credential must survive the run; one operation could end it.
ENDS_THE_RUN: Final = "/api/v1/access-keys/{id}/revoke/"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of Schemathesis has found."""

    requests: int
    failed: bool
    output: str


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with own_database("conformance") as url:
        # Whoever calls as fast as they can is not what is asked about here.
        limits = {"KEEPTRUSTS_API_RATE": "100000/s", "KEEPTRUSTS_API_ANONYMOUS_RATE": "100000/s"}
        served = Served(tmp_path_factory.mktemp("console"), url, **limits)
        served.start()
        try:
            for slug in ("checkout", "search"):
                served.api("POST", "/consumer-groups/", {"name": slug, "slug": slug})
                served.api("POST", "/gateway-keys/", {"name": slug, "consumer_group": slug})
            yield served
        finally:
            served.close()


def run(console: Served, role: Role, folder: Path, *, examples: int, phases: str) -> Run:
    """Call every operation as a member of this role. examples: how many of each operation a phase makes, at most."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run"]
    command += [f"{console.base}/api/schema/", "--header", f"Authorization: Bearer {console.access_key_of(role)}"]
    command += ["--checks", "all", "--phases", phases, "--max-examples", str(examples), "--continue-on-failure"]
    command += ["--exclude-path", ENDS_THE_RUN, "--generation-database", "none", "--no-shrink", "--no-color"]
    command += ["--request-timeout", "30", "--warnings", "off"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1_200, check=False)
    made = re.search(r"([\d,]+) generated(?:.*?([\d,]+) skipped)?", done.stdout)
    assert made, done.stdout[-4_000:] + done.stderr[-4_000:]
    generated, skipped = (int((text or "0").replace(",", "")) for text in made.groups())
    return Run(generated - skipped, done.returncode != 0, done.stdout[-20_000:])


def test_what_is_answered_is_in_the_description(console: Served, tmp_path: Path) -> None:
    found = run(console, Role.ADMIN, tmp_path, examples=8, phases="examples,fuzzing")
    assert not found.failed, found.output
    assert found.requests >= 200


@pytest.mark.fault("conformance", full=1)
@pytest.mark.timeout(1_800)
def test_each_role_is_answered_as_described_ten_thousand_times(console: Served, tmp_path: Path) -> None:
    made = 0
    for role in Role:
        found = run(console, role, tmp_path, examples=30, phases="examples,coverage,fuzzing,stateful")
        assert not found.failed, found.output
        made += found.requests
    print(f"{made} requests")
    assert made >= 10_000

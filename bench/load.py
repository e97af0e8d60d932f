"""Load on loopback: servers that a benchmark starts, and wrk, which asks them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, Watched, eventually, running

CONNECTIONS = 32


def say(line: str) -> None:
    """Tell the user what is going on; the figures alone go to stdout."""
    print(line, file=sys.stderr, flush=True)


def program(name: str) -> str:
    """Return the path of a program. Ends the run where this machine lacks it."""
    # Debian keeps daemons such as nginx in sbin, which a user's PATH may lack.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    if found := shutil.which(name, path=path):
        return found
    sys.exit(f"This benchmark needs {name}, which is not installed: apt-get install {name}")


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], url: str) -> Iterator[Watched]:
    """Run a server for the block, which begins when it answers at `url`, be it with a refusal."""
    with running(command, environment) as server:
        if not eventually(lambda: _answers(url) or server.process.poll() is not None, 60) or not _answers(url):
            sys.exit(f"{command[0]} did not start:\n{server.output}")
        yield server


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (our own address)
    except urllib.error.HTTPError as refusal:
        refusal.close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Slice:
    """What wrk saw in a slice of time. refused: answers with a status of 400 and more; lost: no answer at all."""

    seconds: float
    answers: int
    refused: int
    lost: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


def ask(url: str, authorizations: Path, *, token: str, seconds: int) -> Slice:
    """Ask as fast as answers come, on CONNECTIONS connections, with the headers of a file in random order."""
    done = subprocess.run(
        [
            *(program("wrk"), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"),
            *("--header", f"X-Keeptrusts-Gateway-Token: {token}", "--timeout", "10s"),
            *("--script", str(ROOT / "bench" / "authorize.lua"), url, "--", str(authorizations)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"wrk failed:\n{done.stdout}{done.stderr}")
    return Slice(**json.loads(done.stdout.splitlines()[-1]))

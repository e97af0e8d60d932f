"""Programs that a test starts for real, watches, and never leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from keeptrusts.supervisor import die_with_parent

ROOT = Path(__file__).resolve().parent.parent


def eventually[T](probe: Callable[[], T], seconds: float = 15) -> T:
    """Return the probe's answer as soon as it is true, or its last answer when the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    """Say whether the process runs; one that has ended and only waits to be noticed does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def descendants(pid: int) -> list[int]:
    """Return the process ids of everything that the process has started, and they in turn."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [grandchild for child in children for grandchild in descendants(child)]
    return []


def clean_environment(**more: str) -> dict[str, str]:
    """Return an environment in which nothing of the test's own settings is left."""
    ours = ("KEEPTRUSTS_", "DJANGO_", "DATABASE_URL", "REDIS_URL", "HOST", "PORT", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def manage(environment: Mapping[str, str], *arguments: str, stdin: str = "") -> str:
    """Run a command of `manage.py` and return what it says. Errors: CalledProcessError if it fails."""
    command = [sys.executable, "manage.py", *arguments]
    # What it complains of stays visible where this runs.
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, stdout=subprocess.PIPE, text=True, check=True, timeout=100
    )
    return ended.stdout


class Watched:
    """A running program and what it has said so far, on both streams."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def says(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        """Return the match once the output has one. Errors: AssertionError with the output, if it never does."""
        eventually(lambda: re.search(pattern, self.output) or self.process.poll() is not None, seconds)
        self._reader.join(1) if self.process.poll() is not None else None
        found = re.search(pattern, self.output)
        assert found, f"it never said {pattern!r}:\n{self.output}"
        return found

    def ends(self, seconds: float = 30) -> int:
        """Return the exit status. Errors: AssertionError if it still runs when the time is up."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds} s:\n{self.output}") from None
        self._reader.join(5)
        return status

    def close(self) -> None:
        """Let go of the output, of a program that has ended."""
        # Whoever still holds the other end of the pipe would make close() wait for the reader without end.
        self._reader.join(10)
        assert not self._reader.is_alive(), f"something that it started is still there:\n{self.output}"
        assert self.process.stdout
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path = ROOT) -> Iterator[Watched]:
    """Run the command for the block, in a process group of its own, as a terminal would."""
    parent = os.getpid()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=lambda: die_with_parent(parent),
    )
    watched = Watched(process)
    try:
        yield watched
    finally:
        for pid in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watched.close()

"""Programs that start together, stop together, and do not outlive each other."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child of a process with threads must not take a lock that another thread held.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


# Seconds between two looks at the pulses, and from SIGTERM to SIGKILL of a program that has none.
LOOK_EVERY = 1.0
STALLED_GRACE = 5.0
# Seconds that a program has for its first sign of life: a machine may be slow.
FIRST_PULSE = 60.0


@dataclass(frozen=True)
class Program:
    """A command that runs until it is told to stop; `environment` is added to ours.

    pulse: a file that the program touches while it does what it is there for; None: to run is enough.
    stalled_after: seconds without that after which it is started anew.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    pulse: Path | None = None
    stalled_after: float = 30.0


def run_together(
    programs: Sequence[Program],
    *,
    say: Callable[[str], None],
    is_ready: Callable[[], bool],
    ready_message: str,
    grace: float = 10,
    may_restart: Callable[[], bool] = lambda: True,
) -> int:
    """Run all programs until a stop signal (SIGINT, SIGTERM, SIGHUP) or until one of them ends; leave none behind.

    A program that runs without a pulse is started anew, while `may_restart` says that this could help.

    Returns 0 if all stopped when told to, 1 if one ended by itself or had to be killed.
    grace: seconds from the stop signal to SIGKILL; a second stop signal kills at once.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    pulses = [Pulse(program) for program in programs if program.pulse]
    say = _unhurt(say)
    with _wakeup() as wait, _noted_signals() as noted:
        try:
            for program in programs:
                running[program.name] = _start(program)
            with _announcement(is_ready, lambda: say(ready_message), say):
                while not noted and not any(_has_ended(process) for process in running.values()):
                    wait(LOOK_EVERY if pulses else None)
                    for pulse in pulses:
                        if not noted and pulse.has_stopped():
                            _revive(pulse, running, may_restart, say)
            ended = [name for name, process in running.items() if _has_ended(process)]
            if not noted:
                for name in ended:
                    say(f"{name} ended by itself ({_outcome(running[name])}): stopping the others.")
            else:
                say("Stopping…")
            for name in running.keys() - ended:
                _send(running[name], signal.SIGTERM)
            killed = _await_end(running, wait, noted, grace)
            for name in killed:
                say(f"{name} did not stop and was killed.")
        finally:
            _sweep(running)
    if killed or (ended and not noted):
        return 1
    say("Stopped.")
    return 0


class Pulse:
    """Whether a program still touches its file. By our own clock: the file's time only tells that it was touched."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.begin()

    def begin(self) -> None:
        """Wait for the first sign of life of what was just started."""
        self._touched = self._touched_at()
        self._has_lived = False
        self.excuse()

    def excuse(self) -> None:
        """Take it for alive now: what it did not do until now, it could not."""
        self._seen = self._looked = time.monotonic()

    def has_stopped(self) -> bool:
        now, touched = time.monotonic(), self._touched_at()
        self._has_lived = self._has_lived or touched != self._touched
        patience = self.program.stalled_after if self._has_lived else max(FIRST_PULSE, self.program.stalled_after)
        if touched != self._touched or now - self._looked > 5 * LOOK_EVERY:
            # Or nobody looked, because this process stood still itself: the machine slept, and they with it.
            self._touched, self._seen = touched, now
        self._looked = now
        return now - self._seen > patience

    def _touched_at(self) -> int:
        try:
            return self.program.pulse.stat().st_mtime_ns if self.program.pulse else 0
        except OSError:
            return 0


def die_with_parent(parent: int, signal_number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process the signal when its parent is gone, even by SIGKILL (Linux; else nothing).

    Call in the child, after any change of user. parent: the pid that must still be the parent.
    """
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != parent:  # it went before we could ask
        os._exit(1)


def _unhurt(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return the same function, to which a listener that is gone (a closed terminal) is no error."""

    def say_unhurt(line: str) -> None:
        with suppress(OSError):
            say(line)

    return say_unhurt


def _start(program: Program) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(
        list(program.command),
        stdin=subprocess.DEVNULL,
        env={**os.environ, **program.environment},
        cwd=program.folder,
        # A session of its own: a terminal's Ctrl-C reaches us alone, and each leader exactly once, through us.
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),
    )


@contextmanager
def _wakeup() -> Iterator[Callable[[float | None], None]]:
    """Give a function that waits (seconds, or without end) until some signal arrives, SIGCHLD among them."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)

    def wait(seconds: float | None) -> None:
        select.select([reader], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(reader, 4096)

    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A signal that has no handler wakes nobody.
    previous_handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield wait
    finally:
        signal.signal(signal.SIGCHLD, previous_handler)
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Give the list of stop signals received so far, instead of letting them end this process."""
    noted: list[int] = []
    previous = {number: signal.signal(number, lambda received, _: noted.append(received)) for number in STOP_SIGNALS}
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _announcement(
    is_ready: Callable[[], bool], announce: Callable[[], None], say: Callable[[str], None]
) -> Iterator[None]:
    """Ask until the programs are ready, then say so once; within the block only."""
    over = threading.Event()

    def ask() -> None:
        started = time.monotonic()
        patient = True
        while not is_ready():
            if patient and time.monotonic() - started > 30:
                patient = False
                say("No answer yet after 30 seconds; still trying.")
            if over.wait(0.1):
                return
        if not over.is_set():
            announce()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        over.set()


def _await_end(
    running: dict[str, subprocess.Popen[bytes]], wait: Callable[[float | None], None], noted: list[int], grace: float
) -> list[str]:
    """Wait until all have ended; kill those that have not when the grace or the user's patience is over."""
    asked = len(noted)
    deadline = time.monotonic() + grace
    while alive := [name for name, process in running.items() if not _has_ended(process)]:
        left = deadline - time.monotonic()
        if left <= 0 or len(noted) > max(asked, 1):
            return alive
        wait(left)
    return []


def _sweep(running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Kill what is left of every program's session: a leader that was killed cannot stop its own children."""
    for process in running.values():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _revive(
    pulse: Pulse,
    running: dict[str, subprocess.Popen[bytes]],
    may_restart: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    """Start anew a program that has no pulse, or wait for it where that would not help."""
    program = pulse.program
    if not may_restart():
        return pulse.excuse()
    say(f"{program.name} runs, but does nothing any more: it is started anew.")
    _end(running[program.name])
    running[program.name] = _start(program)
    return pulse.begin()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End one program and all that it has started."""
    _send(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STALLED_GRACE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _outcome(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

"""What the web processes behind one port have counted, each for itself: whichever is asked answers for all.

Each process leaves its counts in a small file, once a second and only where metrics are switched on. The counts of a
process that has died stay, as long as those run that were started together with it: a sum never falls while they do.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from django.conf import settings

from gateways.telemetry import TELEMETRY

logger = logging.getLogger(__name__)

# Seconds between two writes of the counts.
EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What one process has counted. alive: it still runs; what it says of the present holds only then."""

    counts: dict[str, Any]
    alive: bool


class Publisher:
    """Writes this process's counts until it is stopped."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish_forever, name="metrics", daemon=True)

    def start(self) -> None:
        _remove_what_is_left()
        self._thread.start()

    def stop(self) -> None:
        """Write them a last time."""
        self._over.set()
        self._thread.join()

    def _publish_forever(self) -> None:
        failing = False
        while True:
            over = self._over.wait(EVERY)
            try:
                _publish()
                failing = False
            except OSError as error:
                if not failing:
                    logger.warning("The counts for metrics cannot be written (%s).", error.strerror)
                failing = True
            if over:
                return


def counted() -> list[Counted]:
    """Return the counts of all web processes that were started together: this one's as they are now."""
    found = [Counted(_own(), alive=True)]
    for file in _folder().glob("*.json"):
        if (pid := int(file.stem)) != os.getpid():
            with suppress(OSError, ValueError):
                found.append(Counted(orjson.loads(file.read_bytes()), alive=_runs(pid)))
    return found


def _own() -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return TELEMETRY.snapshot() | {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "resident_bytes": _resident_bytes(),
        "at": time.time(),
    }


def _publish() -> None:
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{os.getpid()}"
    draft.write_bytes(orjson.dumps(_own()))
    draft.replace(folder / f"{os.getpid()}.json")


def _folder() -> Path:
    """Return where the children of this process's parent write. A process id comes again; with its start, not."""
    parent = os.getppid()
    return _all_folders() / f"{socket.gethostname()[:100]}-{parent}-{_started(parent)}"


def _all_folders() -> Path:
    return Path(settings.DATA_DIR) / "metrics"


def _remove_what_is_left() -> None:
    """Remove the folders of those whose parent is gone; other hosts' stay, if they share this one."""
    for folder in _all_folders().glob(f"{socket.gethostname()[:100]}-*"):
        _, parent, started = folder.name.rsplit("-", 2)
        if not (_runs(int(parent)) and _started(int(parent)) == started):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _started(pid: int) -> str:
    """Return when the process was started, in ticks since the boot (proc(5), field 22); "0" where /proc is not."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "0"


def _resident_bytes() -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0

"""Copies of checkpoints outside the database: what shows a cut tail, and a log that was rewritten as a whole.

A file that is only ever appended to (always), syslog, and an address that takes a POST (where set). Each gets the
newest checkpoint about every KEEPTRUSTS_CHECKPOINT_SECONDS; the chain in each note vouches for those between.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from django.conf import settings

from audit import clock
from audit.models import Checkpoint, CheckpointCopy
from audit.notes import NoteError, parse
from audit.sealing import newest_checkpoint

logger = logging.getLogger(__name__)
# Seconds that an address has for its answer: the sealer waits behind it.
PATIENCE: Final = 5
# RFC 5424 §6.2.1: facility 4 (security), severity 6 (informational).
AUTH_INFO: Final = 4 * 8 + 6
# Bytes; longer than any line that we write.
LONGEST_LINE: Final = 4_096


class Copy(NamedTuple):
    """One line of a file of copies. note: None where the line is none, then problem says why."""

    line: int
    number: int
    note: str | None
    problem: str = ""


def copy_checkpoints() -> None:
    """Bring every destination up to date; what fails is logged, kept in CheckpointCopy, and tried again next time."""
    newest = newest_checkpoint()
    if newest is None:
        return
    _attempt("file", newest, lambda: append_to(settings.KEEPTRUSTS_CHECKPOINT_FILE, newest))
    if settings.KEEPTRUSTS_CHECKPOINT_SYSLOG:
        _forward("syslog", newest, _to_syslog)
    if settings.KEEPTRUSTS_CHECKPOINT_URL:
        _forward("address", newest, _to_address)


def append_to(path: Path, checkpoint: Checkpoint) -> bool:
    """Append the checkpoint to the file unless its last one is young enough; say whether it was.

    Errors: OSError. Afterwards the line is on the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Appended to by every worker of the host: one at a time.
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last, whole = _last_line(file)
        if last is not None and not _is_due(last, checkpoint):
            return False
        line = json.dumps({"number": checkpoint.number, "note": checkpoint.note}, ensure_ascii=False)
        # What a full disk cut in two is left, on a line of its own.
        file.write((b"" if whole else b"\n") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def copies_in(path: Path) -> Iterator[Copy]:
    """Read a file of copies, a line at a time. Errors: OSError."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                said = json.loads(raw)
                note = str(said["note"])
                yield Copy(line, parse(note).number, note)
            except (ValueError, KeyError, TypeError) as error:
                reason = str(error) if isinstance(error, NoteError) else "it is cut off, or no line of ours"
                yield Copy(line, 0, None, reason)


def _last_line(file: Any) -> tuple[Checkpoint | None, bool]:
    """Return what the last line tells, and whether the file ends with a whole line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LONGEST_LINE))
    tail = file.read()
    whole = not tail or tail.endswith(b"\n")
    lines = tail.rstrip(b"\n").split(b"\n")
    try:
        statement = parse(json.loads(lines[-1])["note"])
    except (ValueError, KeyError, TypeError):
        return None, whole
    return Checkpoint(number=statement.number, at=statement.at), whole


def _is_due(last: Checkpoint, newest: Checkpoint) -> bool:
    return newest.number != last.number and newest.at - last.at >= timedelta(
        # The sealer comes by every few seconds: without this, every second one would be left out.
        seconds=settings.KEEPTRUSTS_CHECKPOINT_SECONDS * 0.9
    )


def _forward(destination: str, newest: Checkpoint, send: Callable[[Checkpoint], None]) -> None:
    copy, _ = CheckpointCopy.objects.get_or_create(destination=destination)
    last = Checkpoint.objects.filter(number=copy.number).first()
    if last is None or _is_due(last, newest):
        _attempt(destination, newest, lambda: send(newest))


def _attempt(destination: str, newest: Checkpoint, copy: Callable[[], object]) -> None:
    try:
        if copy() is False:
            return
    except (OSError, httpx.HTTPError) as error:
        logger.error("Checkpoint %s was not copied (%s): %s", newest.number, destination, error)
        CheckpointCopy.objects.update_or_create(
            destination=destination, defaults={"error": f"{type(error).__name__}: {error}"[:300]}
        )
        return
    CheckpointCopy.objects.update_or_create(
        destination=destination, defaults={"number": newest.number, "at": clock.now(), "error": ""}
    )


def _to_syslog(checkpoint: Checkpoint) -> None:
    place = settings.KEEPTRUSTS_CHECKPOINT_SYSLOG
    said = json.dumps({"number": checkpoint.number, "note": checkpoint.note})
    # Not by logging's handler: it swallows what goes wrong.
    datagram = f"<{AUTH_INFO}>keeptrusts-audit: {said}".encode()
    if place.startswith("/"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
            unix.connect(place)
            unix.send(datagram)
        return
    host, _, port = place.rpartition(":")
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as udp:
        udp.sendto(datagram, address)


def _to_address(checkpoint: Checkpoint) -> None:
    answer = httpx.post(
        settings.KEEPTRUSTS_CHECKPOINT_URL,
        json={"number": checkpoint.number, "note": checkpoint.note},
        timeout=PATIENCE,
        trust_env=False,
    )
    answer.raise_for_status()

"""The lines of a log file, through its rotations, each exactly once.

A file is known by its first line, not by its name or inode: a rotation renames it, or copies it and truncates it, or
compresses it; and inodes are given out again. The first line holds a time and an id, and so is like no other.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, cast

logger = logging.getLogger("keeptrusts.shipping")

MOST_LINES = 2_000
# What is read at once, and no line is longer. The events of it are a body of less than a MiB, which most proxies pass.
MOST_BYTES = 512 * 1_024
# The first line, or as much of it as says which file this is.
HEAD = 4_096
# Seconds without a new line in a rotated file after which the gateway, having begun another, is done with it.
LINGER = 5.0
MOST_DONE = 200


class Line(NamedTuple):
    """place: names this line and no other, and the same after a restart."""

    content: bytes
    place: str


@dataclass
class Position:
    """How far the log was read; the state file holds it.

    fingerprint: of the first line of the file that is read, empty before there is one; modified: when that file was
    last written to, in nanoseconds, or when the first run began; done: the fingerprints of files that were read to
    their end, the latest last.
    """

    fingerprint: str = ""
    offset: int = 0
    modified: int = 0
    done: list[str] = field(default_factory=list)

    def finish(self) -> None:
        self.done = [*self.done, self.fingerprint][-MOST_DONE:]
        self.fingerprint, self.offset = "", 0


class LogFile:
    """A log file that grows and is rotated, read on from where the last run had come to."""

    input_at: int | None = None
    ended = False
    # Whether what was last taken was only a part of what is there.
    has_more = False

    def __init__(self, path: Path, state: Path, *, linger: float = LINGER) -> None:
        """Errors: OSError if the state file cannot be written."""
        self._path, self._state, self._linger = path, state, linger
        self._position = _load(state)
        self._file: IO[bytes] | None = None
        self._saved = ""
        self._save()

    def take(self) -> list[Line]:
        """Return the next whole lines, at most MOST_LINES; none if there are none now."""
        while True:
            file = self._file or self._open()
            if file is None:
                return []
            lines = self._whole_lines(file)
            if lines or not self._is_over(file):
                return lines
            self.close()

    def settled(self) -> None:
        """Write down that what was taken need not be read again."""
        try:
            self._save()
        except OSError as error:
            # Whoever starts from an older place sends again what the console has, which counts once.
            logger.error("The place in the log cannot be written down: %s", error)

    def close(self) -> None:
        """Let go of the file; `take` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _save(self) -> None:
        content = json.dumps(asdict(self._position))
        if content != self._saved:
            _write(self._state, content)
            self._saved = content

    def _whole_lines(self, file: IO[bytes]) -> list[Line]:
        position = self._position
        chunk = _read(file, position.offset, MOST_BYTES)
        if _fingerprint(file) != position.fingerprint:
            # Another file was written over this one, perhaps while it was read.
            return []
        position.modified = os.fstat(file.fileno()).st_mtime_ns
        *pieces, rest = chunk.split(b"\n", MOST_LINES)
        if not pieces and len(rest) == MOST_BYTES:  # half a line is waited for, one without end is not
            pieces = [rest[:-1]]
        self.has_more = len(chunk) == MOST_BYTES or len(pieces) == MOST_LINES
        lines = []
        for piece in pieces:
            lines.append(Line(piece, f"{position.fingerprint}-{position.offset}"))
            position.offset += len(piece) + 1
        return lines

    def _is_over(self, file: IO[bytes]) -> bool:
        """Say whether this file, which has no more whole lines, will have none again."""
        if _fingerprint(file) != self._position.fingerprint:
            # Truncated after it was copied: the copy holds what was not read yet.
            return True
        status = os.fstat(file.fileno())
        if _is_at(status, self._path) or self._following() is None:
            return False
        if time.time() - status.st_mtime < self._linger:
            return False
        if _read(file, self._position.offset, 1):
            logger.warning("A rotated log ended with half a line, which is left out.")
        self._position.modified = status.st_mtime_ns
        self._position.finish()
        return True

    def _open(self) -> IO[bytes] | None:
        """Open the file that was being read, under whatever name it has now, or the one that follows."""
        position = self._position
        if position.fingerprint:
            self._file = self._find()
            if self._file is None:
                logger.warning(
                    "The log that was read up to byte %d is gone: what was written to it after that is lost.",
                    position.offset,
                )
                position.finish()
        following = self._following() if self._file is None else None
        if following is not None:
            self._file = _opened(following)
            if self._file is not None:
                position.fingerprint = _fingerprint(self._file)
        return self._file

    def _find(self) -> IO[bytes] | None:
        for path in (self._path, *self._rotated()):
            if _fingerprint_at(path) == self._position.fingerprint:
                return _opened(path)
        return None

    def _following(self) -> Path | None:
        """Return the oldest file that was written to since and never read: at last the live one."""
        position, live = self._position, _fingerprint_at(self._path)
        known = {"", live, position.fingerprint, *position.done}
        rotated = [(status.st_mtime_ns, path) for path in self._rotated() if (status := _status(path))]
        for modified, path in sorted(rotated):
            if modified >= position.modified and _fingerprint_at(path) not in known:
                return path
        return self._path if live and live != position.fingerprint else None

    def _rotated(self) -> Iterator[Path]:
        """Yield the files that rotations of this log have left, compressed ones last."""
        found = [path for path in self._path.parent.iterdir() if is_rotation_of(self._path, path)]
        yield from sorted(found, key=lambda path: (path.suffix == ".gz", path.name))


def is_rotation_of(log: Path, other: Path) -> bool:
    """Say whether this is a name that rotations give: access.log.1, access.log-20261124.gz, access-<time>.log."""
    if other.parent != log.parent or other == log:
        return False
    plain = other.name[:-3] if other.suffix == ".gz" else other.name
    return other.name.startswith((f"{log.name}.", f"{log.name}-")) or (
        plain.startswith(f"{log.stem}-") and bool(log.suffix) and plain.endswith(log.suffix)
    )


def _load(state: Path) -> Position:
    try:
        return Position(**json.loads(state.read_text()))
    except FileNotFoundError:
        # File systems tell the time a little late.
        return Position(modified=time.time_ns() - 1_000_000_000)
    except (ValueError, TypeError):
        logger.warning("%s is unreadable: the log is read from its beginning. Nothing counts twice.", state)
        return Position()


def _write(path: Path, content: str) -> None:
    """Replace the file at once and for good: after a power cut it holds this or what was there before."""
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _opened(path: Path) -> IO[bytes] | None:
    try:
        if path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(path))
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.error("The log cannot be read: %s", error)
        return None


def _read(file: IO[bytes], offset: int, most: int) -> bytes:
    try:
        file.seek(offset)
        return file.read(most)
    except (OSError, EOFError, zlib.error):  # still being compressed
        return b""


def _fingerprint(file: IO[bytes]) -> str:
    """Return what tells this file from every other; nothing before its first line is whole."""
    head = _read(file, 0, HEAD)
    end = head.find(b"\n")
    if end < 0 and len(head) < HEAD:
        return ""
    return hashlib.sha256(head if end < 0 else head[:end]).hexdigest()[:32]


def _fingerprint_at(path: Path) -> str:
    file = _opened(path)
    if file is None:
        return ""
    with file:
        return _fingerprint(file)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_at(status: os.stat_result, path: Path) -> bool:
    there = _status(path)
    return there is not None and os.path.samestat(status, there)

"""A log file that is written to, rotated in every way, and read by a shipper that is killed: each line once."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateways.shipping.following import LINGER, MOST_BYTES, MOST_LINES, LogFile, is_rotation_of

pytestmark = pytest.mark.once


type Rotate = Callable[[Log], object]


class Log:
    """A log that its gateway writes, and what a shipper has taken of it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "access.log", folder / "position"
        self.numbers = count()
        self.written: list[bytes] = []
        # By their places: what is taken twice has the same.
        self.taken: dict[str, bytes] = {}
        # Nobody writes to a rotated file here.
        self.reader = LogFile(self.path, self.state, linger=0)
        self.rotations = 0

    def write(self, lines: int = 1, *, length: int = 0) -> None:
        with self.path.open("ab") as log:
            for _ in range(lines):
                line = b'{"line":%d,"x":"%s"}' % (next(self.numbers), b"x" * length)
                self.written.append(line)
                log.write(line + b"\n")

    def rename(self) -> Path:
        """Rotate as logrotate does without copytruncate; the others move on."""
        for number in range(self.rotations, 0, -1):
            for suffix in ("", ".gz"):
                old = self.path.with_name(f"access.log.{number}{suffix}")
                if old.exists():
                    old.rename(self.path.with_name(f"access.log.{number + 1}{suffix}"))
        self.rotations += 1
        rotated = self.path.with_name("access.log.1")
        if self.path.exists():
            self.path.rename(rotated)
        return rotated

    def copy_and_truncate(self) -> None:
        self.path.touch()
        rotated = self.rename()
        rotated.rename(self.path)
        shutil.copyfile(self.path, rotated)
        # The same inode goes on from its beginning.
        os.truncate(self.path, 0)

    def compress(self) -> None:
        """Compress every rotated file, as logrotate does: with its time."""
        for number in range(1, self.rotations + 1):
            plain = self.path.with_name(f"access.log.{number}")
            if plain.exists():
                times = plain.stat().st_mtime_ns
                packed = plain.with_name(plain.name + ".gz")
                packed.write_bytes(gzip.compress(plain.read_bytes()))
                os.utime(packed, ns=(times, times))
                plain.unlink()

    def take(self, *, settles: bool = True) -> None:
        """Take everything that is there."""
        while lines := self.reader.take():
            assert len(lines) <= MOST_LINES
            for line in lines:
                assert self.taken.setdefault(line.place, line.content) == line.content
            if settles:
                self.reader.settled()

    def restart(self) -> None:
        self.reader.close()
        self.reader = LogFile(self.path, self.state, linger=0)

    @property
    def complete(self) -> bool:
        return sorted(self.taken.values()) == sorted(self.written)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.reader.close()


def test_what_is_not_settled_is_taken_again_after_a_restart_with_the_same_places(log: Log) -> None:
    log.write(3)
    log.take()
    log.write(3)
    log.take(settles=False)
    log.restart()
    assert [line.content for line in log.reader.take()] == log.written[3:]
    log.restart()
    log.take()
    assert log.complete


@pytest.mark.parametrize("rotate", [Log.rename, Log.copy_and_truncate])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_rotation_loses_nothing_whether_the_shipper_runs_or_not(log: Log, rotate: Rotate, stopped: bool) -> None:
    log.write(3)
    log.take()
    log.write(3)
    for _ in range(3):
        rotate(log)
        log.write(2)
    log.compress()
    if stopped:
        log.restart()
    log.take()
    assert log.complete


def test_a_rotated_file_is_read_on_until_the_gateway_has_begun_another(log: Log) -> None:
    log.write()
    log.take()
    log.rename()
    with log.path.with_name("access.log.1").open("ab") as rotated:
        rotated.write(b'{"late":1}\n')
    log.written.append(b'{"late":1}')
    log.take()
    assert log.complete
    log.path.touch()
    log.take()
    log.write()
    log.take()
    assert log.complete


def test_a_gateway_that_still_writes_to_a_rotated_file_is_given_time(log: Log) -> None:
    log.reader.close()
    log.reader = LogFile(log.path, log.state)
    log.write()
    log.take()
    rotated = log.rename()
    log.write()
    log.take()
    assert len(log.taken) == 1
    os.utime(rotated, (rotated.stat().st_atime, rotated.stat().st_mtime - LINGER))
    log.take()
    assert log.complete


def test_another_file_under_the_same_inode_and_longer_than_the_last_is_another(log: Log) -> None:
    log.write(2)
    log.take()
    log.copy_and_truncate()
    log.write(5, length=50)
    log.take()
    assert log.complete


def test_half_a_line_is_waited_for(log: Log) -> None:
    log.write()
    with log.path.open("ab") as half:
        half.write(b'{"half":')
    log.take()
    assert log.complete
    with log.path.open("ab") as half:
        half.write(b"1}\n")
    log.written.append(b'{"half":1}')
    log.take()
    assert log.complete


def test_half_a_first_line_is_waited_for(log: Log) -> None:
    log.path.write_bytes(b'{"half":')
    log.take()
    log.restart()
    with log.path.open("ab") as half:
        half.write(b"1}\n")
    log.written.append(b'{"half":1}')
    log.take()
    assert log.complete


def test_a_line_without_end_is_left_behind_in_pieces(log: Log) -> None:
    log.write()
    with log.path.open("ab") as endless:
        endless.write(b"x" * (3 * MOST_BYTES) + b"\n")
    log.write()
    log.take()
    assert set(log.written) < set(log.taken.values())
    assert max(map(len, log.taken.values())) <= MOST_BYTES


def test_a_log_that_is_gone_is_said_to_be_and_the_next_one_read(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    log.write(3)
    log.take()
    log.path.unlink()
    log.restart()
    log.write(2)
    log.take()
    assert log.complete
    assert "is gone" in caplog.text


def test_a_place_that_cannot_be_read_or_written_costs_nothing(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    log.write(3)
    log.take()
    log.state.write_text("{")
    log.restart()
    log.write(3)
    log.take()
    assert log.complete
    log.state.unlink()
    log.state.mkdir()
    log.write(3)
    log.take()
    assert log.complete
    assert "unreadable" in caplog.text
    assert "cannot be written down" in caplog.text


@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        ("access.log.1", True),
        ("access.log.2.gz", True),
        ("access.log-20261124", True),
        ("access-2026-11-24T10-00-00.000.log", True),
        ("access-2026-11-24T10-00-00.000.log.gz", True),
        ("access.log", False),
        ("error.log.1", False),
        ("access-position", False),
    ],
)
def test_which_names_rotations_give(name: str, rotated: bool, tmp_path: Path) -> None:
    assert is_rotation_of(tmp_path / "access.log", tmp_path / name) is rotated


def test_in_whatever_order_things_happen_each_line_is_taken_and_none_as_two(tmp_path: Path) -> None:
    folders = (tmp_path / str(number) for number in count())

    class Life(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            folder = next(folders)
            folder.mkdir()
            self.log = Log(folder)

        @rule(lines=st.integers(1, 5), length=st.sampled_from([0, 100, 5_000]))
        def write(self, lines: int, length: int) -> None:
            self.log.write(lines, length=length)

        @rule()
        def create(self) -> None:
            self.log.path.touch()

        @rule(rotate=st.sampled_from([Log.rename, Log.copy_and_truncate]))
        def rotate(self, rotate: Rotate) -> None:
            rotate(self.log)

        @rule()
        def compress(self) -> None:
            self.log.compress()

        @rule(settles=st.booleans())
        def take(self, settles: bool) -> None:
            self.log.take(settles=settles)

        @rule()
        def restart(self) -> None:
            self.log.restart()

        @invariant()
        def nothing_is_made_up(self) -> None:
            assert set(self.log.taken.values()) <= set(self.log.written)

        def teardown(self) -> None:
            self.log.take()
            self.log.reader.close()
            assert self.log.complete

    run_state_machine_as_test(Life, settings=settings(max_examples=150, stateful_step_count=30, deadline=None))

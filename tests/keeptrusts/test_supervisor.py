from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import Watched, clean_environment, eventually, is_alive, running

pytestmark = pytest.mark.once

# Notes its own pid and every signal that it is sent; stops at the first SIGTERM.
POLITE = """
import os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
def note(number, _):
    with (folder / f"{sys.argv[2]}.signals").open("a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if number == signal.SIGTERM:
        sys.exit()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
(folder / f"{sys.argv[2]}.draft").write_text(str(os.getpid()))
(folder / f"{sys.argv[2]}.draft").rename(folder / f"{sys.argv[2]}.pid")
while True:
    signal.pause()
"""
DEAF = POLITE.replace("sys.exit()", "pass")
FAILING = """
import pathlib, sys, time
while not list(pathlib.Path(sys.argv[1]).glob("*.pid")):
    time.sleep(0.01)
sys.exit(7)
"""
# A leader that ends by itself, with a child that does not.
FORKING = POLITE.replace(
    "while True:",
    """if os.fork():
    import time
    while not (folder / "child.pid").exists():
        time.sleep(0.01)
    sys.exit(3)
os.rename(folder / f"{sys.argv[2]}.pid", folder / "child.draft")
(folder / "child.draft").write_text(str(os.getpid()))
(folder / "child.draft").rename(folder / "child.pid")
while True:""",
)
SUPERVISOR = """
import json, pathlib, sys
from keeptrusts.supervisor import Program, run_together
folder, programs, grace = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
sys.exit(run_together(
    [Program(name, [sys.executable, "-c", code, str(folder), name]) for name, code in programs.items()],
    say=lambda line: print(line, flush=True),
    is_ready=lambda: len(list(folder.glob("*.pid"))) == len(programs),
    ready_message="all are ready",
    grace=grace,
))
"""


@contextmanager
def supervised(folder: Path, grace: float = 20, **programs: str) -> Iterator[Watched]:
    command = [sys.executable, "-c", SUPERVISOR, str(folder), json.dumps(programs), str(grace)]
    with running(command, clean_environment()) as supervisor:
        yield supervisor


def pids(folder: Path) -> list[int]:
    return [int(file.read_text()) for file in folder.glob("*.pid")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_program_and_the_status_is_0(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path, web=POLITE, worker=POLITE, beat=POLITE) as supervisor:
        supervisor.says("all are ready")
        started = pids(tmp_path)
        supervisor.process.send_signal(number)
        assert supervisor.ends() == 0
        assert len(started) == 3
        assert not [pid for pid in started if is_alive(pid)]
        assert "Stopped." in supervisor.output


def test_ctrl_c_in_a_terminal_reaches_each_program_once(tmp_path: Path) -> None:
    with supervised(tmp_path, web=POLITE, worker=POLITE) as supervisor:
        supervisor.says("all are ready")
        # What a terminal does: SIGINT to the whole foreground process group.
        os.killpg(supervisor.process.pid, signal.SIGINT)
        assert supervisor.ends() == 0
    assert {file.stem: file.read_text() for file in tmp_path.glob("*.signals")} == {
        "web": "SIGTERM\n",
        "worker": "SIGTERM\n",
    }


def test_a_program_that_ends_by_itself_is_named_and_takes_the_others_down(tmp_path: Path) -> None:
    with supervised(tmp_path, web=POLITE, worker=FAILING) as supervisor:
        assert supervisor.ends() == 1
        assert "worker ended by itself (exit status 7)" in supervisor.output
        assert not [pid for pid in pids(tmp_path) if is_alive(pid)]


def test_a_program_that_does_not_stop_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    with supervised(tmp_path, grace=0.5, web=POLITE, worker=DEAF) as supervisor:
        supervisor.says("all are ready")
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.ends() == 1
        assert "worker did not stop and was killed" in supervisor.output
        assert "web did not" not in supervisor.output
        assert not [pid for pid in pids(tmp_path) if is_alive(pid)]


def test_a_second_ctrl_c_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    with supervised(tmp_path, grace=1000, worker=DEAF) as supervisor:
        supervisor.says("all are ready")
        supervisor.process.send_signal(signal.SIGINT)
        supervisor.says("Stopping")
        supervisor.process.send_signal(signal.SIGINT)
        assert supervisor.ends() == 1
        assert not [pid for pid in pids(tmp_path) if is_alive(pid)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_nothing_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, web=POLITE, worker=POLITE) as supervisor:
        supervisor.says("all are ready")
        started = pids(tmp_path)
        supervisor.process.kill()
        assert eventually(lambda: not [pid for pid in started if is_alive(pid)])


def test_a_terminal_that_is_gone_does_not_keep_it_from_stopping_the_programs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), json.dumps({"web": POLITE}), "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as supervisor:
        assert supervisor.stdout
        assert b"all are ready" in supervisor.stdout.readline()
        (web,) = pids(tmp_path)
        supervisor.stdout.close()
        supervisor.send_signal(signal.SIGHUP)
        supervisor.wait(30)
        assert not is_alive(web)
    assert (tmp_path / "web.signals").read_text() == "SIGTERM\n"


def test_what_a_dead_leader_left_behind_is_swept_up(tmp_path: Path) -> None:
    with supervised(tmp_path, web=FORKING) as supervisor:
        assert supervisor.ends() == 1
        (left_behind,) = pids(tmp_path)
        assert eventually(lambda: not is_alive(left_behind))


STALLING = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "starts").open("a") as file:
    file.write("started\\n")
for _ in range(5):
    (folder / "pulse").touch()
    time.sleep(0.2)
time.sleep(60)
"""
WATCHING = """
import pathlib, sys
from keeptrusts.supervisor import Program, run_together
folder = pathlib.Path(sys.argv[1])
program = Program("worker", [sys.executable, "-c", sys.argv[2], str(folder)], pulse=folder / "pulse", stalled_after=2)
sys.exit(run_together(
    [program],
    say=lambda line: print(line, flush=True),
    is_ready=lambda: True,
    ready_message="ready",
    may_restart=lambda: not (folder / "broker is away").exists(),
))
"""


def test_a_program_that_runs_without_a_pulse_is_started_anew_while_that_can_help(tmp_path: Path) -> None:
    (tmp_path / "broker is away").touch()
    with running([sys.executable, "-c", WATCHING, str(tmp_path), STALLING], dict(os.environ)) as supervisor:
        time.sleep(6)
        assert (tmp_path / "starts").read_text() == "started\n"
        (tmp_path / "broker is away").unlink()
        supervisor.says("worker runs, but does nothing any more: it is started anew.")
        assert eventually(lambda: (tmp_path / "starts").read_text().count("started") >= 2)
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.ends() == 0

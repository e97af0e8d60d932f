"""`manage.py up`, as its users start it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, Watched, clean_environment, descendants, eventually, is_alive, running
from tests.servers import free_port

# One after the other: a console is three programs, and two of them at once are slow for no gain.
pytestmark = [pytest.mark.once, pytest.mark.xdist_group("console")]

UP = [sys.executable, "manage.py", "up"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which a console has already been started and stopped."""
    folder = tmp_path_factory.mktemp("console")
    environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(folder), PORT=str(free_port()))
    with running([*UP, "--prepare"], environment) as console:
        console.says("Keeptrusts is ready")
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 0
    return folder


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def program(console: Watched, name: str) -> int:
    """Return the process id of the leader that runs this program."""
    found = [
        pid
        for pid in descendants(console.process.pid)
        if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0") and os.getpgid(pid) == pid
    ]
    assert len(found) == 1
    return found[0]


def test_one_command_serves_both_planes_and_ctrl_c_stops_it_cleanly(prepared: Path) -> None:
    port = free_port()
    with running(UP, clean_environment(KEEPTRUSTS_DATA_DIR=str(prepared), PORT=str(port))) as console:
        console.says(rf"Keeptrusts is ready: http://127\.0\.0\.1:{port}/admin/")
        assert get(port, "/admin/login/") == 200
        assert get(port, "/gateway/v1/authorize") == 403
        everyone = descendants(console.process.pid)
        os.killpg(console.process.pid, signal.SIGINT)
        assert console.ends() == 0
        assert len(everyone) >= 3
        assert not [pid for pid in everyone if is_alive(pid)]
        assert "Traceback" not in console.output


@pytest.mark.parametrize("name", ["granian", "worker"])
def test_when_one_of_the_three_dies_the_others_go_too_and_the_status_says_so(prepared: Path, name: str) -> None:
    environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(prepared), PORT=str(free_port()))
    with running(UP, environment) as console:
        console.says("Keeptrusts is ready")
        everyone = descendants(console.process.pid)
        os.kill(program(console, name), signal.SIGKILL)
        assert console.ends() == 1
        called = {"granian": "web"}.get(name, name)
        assert f"{called} ended by itself (signal SIGKILL)" in console.output
        assert eventually(lambda: not [pid for pid in everyone if is_alive(pid)])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_console_that_is_killed_leaves_no_process_behind(prepared: Path) -> None:
    port = free_port()
    with running(UP, clean_environment(KEEPTRUSTS_DATA_DIR=str(prepared), PORT=str(port))) as console:
        console.says("Keeptrusts is ready")
        everyone = descendants(console.process.pid)
        console.process.kill()
        assert eventually(lambda: not [pid for pid in everyone if is_alive(pid)], 30)


def test_a_taken_port_is_one_clear_line_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(tmp_path), PORT=str(port))
        with running([*UP, "--prepare"], environment) as console:
            assert console.ends() == 1
            assert console.output == (
                f"Port {port} on 127.0.0.1 is taken by another program. Choose another one: PORT={port + 1}\n"
            )
            assert not (tmp_path / "static").exists()


def test_an_empty_data_directory_without_prepare_is_one_clear_line(tmp_path: Path) -> None:
    environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(tmp_path), PORT=str(free_port()))
    with running(UP, environment) as console:
        assert console.ends() == 1
        assert console.output == (
            "CommandError: The database lacks migrations: run `manage.py migrate`, or start with --prepare.\n"
        )


def test_an_address_of_another_machine_is_one_clear_line(tmp_path: Path) -> None:
    environment = clean_environment(KEEPTRUSTS_DATA_DIR=str(tmp_path), PORT=str(free_port()), HOST="192.0.2.1")
    with running(UP, environment) as console:
        assert console.ends() == 1
        assert console.output.startswith("Cannot listen on port")
        assert len(console.lines) == 1


@pytest.mark.slow
def test_a_relative_data_directory_is_meant_from_where_the_command_was_given(tmp_path: Path) -> None:
    environment = clean_environment(KEEPTRUSTS_DATA_DIR="data", PORT=str(free_port()))
    command = [sys.executable, str(ROOT / "manage.py"), "up", "--prepare"]
    with running(command, environment, folder=tmp_path) as console:
        console.says("Keeptrusts is ready")
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert {"keeptrusts.sqlite3", "beat", "queue"} <= {path.name for path in (tmp_path / "data").iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_worker_that_stands_still_is_noticed_and_jobs_go_on(prepared: Path) -> None:
    port = free_port()
    with running(UP, clean_environment(KEEPTRUSTS_DATA_DIR=str(prepared), PORT=str(port))) as console:
        console.says("Keeptrusts is ready")
        assert eventually(lambda: get(port, "/readyz?exclude=checkpoint") == 200, 30)
        os.kill(program(console, "worker"), signal.SIGSTOP)
        console.says("worker runs, but does nothing any more: it is started anew", 60)
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 0

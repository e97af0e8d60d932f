"""script/server, from a fresh clone."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import ROOT, clean_environment, descendants, is_alive, running
from tests.servers import free_port

pytestmark = pytest.mark.once


def answer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["script/server", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, check=False
    )


def test_an_unknown_argument_is_refused() -> None:
    result = answer("--dmeo")
    assert result.returncode == 1
    assert "does not know --dmeo" in result.stderr


def test_a_port_that_is_no_number_is_refused() -> None:
    result = answer(PORT="http")
    assert result.returncode == 1
    assert "PORT must be a number" in result.stderr


def test_help_names_what_can_be_set() -> None:
    result = answer("--help")
    assert result.returncode == 0
    for word in ("--demo", "PORT", "KEEPTRUSTS_DATA_DIR", "KEEPTRUSTS_ADMIN_PASSWORD"):
        assert word in result.stdout


def seconds_of_a_start(clone: Path, environment: dict[str, str]) -> float:
    started = time.monotonic()
    with running(["script/server"], environment, clone) as server:
        server.says("Keeptrusts is ready")
        seconds = time.monotonic() - started
        assert not re.search(r"Password|Installing|Applying|Collecting", server.output)
        server.process.send_signal(signal.SIGTERM)
        assert server.ends() == 0
    return seconds


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of what is committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    command = ["git", "-c", "safe.directory=*", "clone", "--quiet", f"file://{ROOT}", str(folder)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_a_fresh_clone_to_a_console_and_back(clone: Path) -> None:
    port = free_port()
    environment = clean_environment(PORT=str(port))
    with running(["script/server", "--demo"], environment, clone) as server:
        assert server.says(r"Password +(\S+)", 400)
        server.says(rf"Keeptrusts is ready: http://127\.0\.0\.1:{port}/admin/", 100)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/admin/login/")
        assert connection.getresponse().status == 200
        connection.close()
        everyone = descendants(server.process.pid)
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.ends() == 0
        assert not [pid for pid in everyone if is_alive(pid)]

    # The best of three: other slow tests run beside this one, on the same cores.
    assert min(seconds_of_a_start(clone, environment) for _ in range(3)) < 5

    with running(["script/server"], environment, clone) as server:
        server.says("Keeptrusts is ready")
        with socket.create_connection(("127.0.0.1", port)):
            refused = subprocess.run(
                ["script/server"], cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
        assert refused.returncode == 1
        assert f"Port {port} on 127.0.0.1 is taken" in refused.stderr
        assert "Traceback" not in refused.stderr
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.ends() == 0

    left = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert left.stdout == ""

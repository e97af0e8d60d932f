"""The shipper as a process, before a console that answers what a test wants: nothing is lost and nothing doubled."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.gateways.shippers import shipping, stopped_cleanly
from tests.processes import ROOT, Watched, clean_environment, eventually, running
from tests.servers import free_port

pytestmark = pytest.mark.once

TOKEN = "kt_gt_a_token_that_nobody_must_see"


class Console(ThreadingHTTPServer):
    """Takes events like the console, except where `answers` says otherwise: the next answers, status and headers."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.events: dict[str, Any] = {}
        self.batches: list[int] = []
        self.tokens: list[str | None] = []
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.rejects: set[str] = set()
        self.most: int | None = None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Console:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def take(self, events: list[Any]) -> dict[str, Any]:
        accepted, duplicates = 0, 0
        rejected: list[dict[str, Any]] = []
        for index, event in enumerate(events):
            if event["path"] in self.rejects:
                rejected.append({"index": index, "code": "too_old", "detail": "no"})
            elif event["id"] in self.events:
                assert self.events[event["id"]] == event, "the same event is the same each time"
                duplicates += 1
            else:
                self.events[event["id"]] = event
                accepted += 1
        return {"accepted": accepted, "duplicates": duplicates, "rejected": rejected}


class _Handler(BaseHTTPRequestHandler):
    server: Console
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert len(body) <= 5 * 1_024 * 1_024
        events = [json.loads(line) for line in body.splitlines()]
        self.server.tokens.append(self.headers["X-Keeptrusts-Gateway-Token"])
        self.server.batches.append(len(events))
        if self.server.most is not None and len(events) > self.server.most:
            return self.answer(413, {}, b"")
        if self.server.answers:
            status, headers = self.server.answers.popleft()
            return self.answer(status, headers, b'{"code":"no"}')
        return self.answer(200, {}, json.dumps(self.server.take(events)).encode())

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Log:
    """An access log of nginx, and where the shipper keeps its place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.state = folder, folder / "access.log", folder / "position"
        self.number = 0
        self.path.touch()

    def write(self, lines: int, **facts: str) -> None:
        with self.path.open("a") as log:
            for _ in range(lines):
                self.number += 1
                log.write(line(self.number, **facts) + "\n")

    def shipper(self, console: str, *more: str) -> Any:
        return shipping("nginx", console, TOKEN, self.path, self.state, *more)


def line(number: int, **facts: str) -> str:
    usual = {"msec": f"{time.time():.3f}", "request_id": f"id-{number}", "request_time": "0.010", "status": "200"}
    usual |= {"request_method": "GET", "path": f"/{number}", "remote_addr": "192.0.2.1"}
    usual |= {"key_id": "0199a5c1-7b5e-7cc3-98a1-6b1f2f3e4d5c", "key_version": "1", "decision_id": f"d-{number}"}
    return json.dumps(usual | facts)


@pytest.fixture
def console() -> Iterator[Console]:
    with Console() as console:
        yield console


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def arrive(console: Console, number: int) -> bool:
    return eventually(lambda: len(console.events) == number, 30)


def test_lines_are_shipped_as_they_come_and_those_of_refused_requests_are_not(log: Log, console: Console) -> None:
    log.write(5)
    log.write(2, key_id="")
    with stopped_cleanly(log.shipper(console.base)) as shipper:
        assert arrive(console, 5)
        log.write(5)
        assert arrive(console, 10)
    assert "lines of refused requests 2" in shipper.output
    assert set(console.tokens) == {TOKEN}
    with stopped_cleanly(log.shipper(console.base)):
        log.write(1)
        assert arrive(console, 11)
    assert sum(console.batches) == 11


def test_a_large_log_goes_in_batches(log: Log, console: Console) -> None:
    log.write(4_500, path="/" + "é" * 1_000)
    with stopped_cleanly(log.shipper(console.base)):
        assert arrive(console, 4_500)
    assert max(console.batches) <= 2_000


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "does not accept the gateway token"),
        (404, "is --console right"),
        (409, "usage source"),
        (400, "answered 400"),
        (429, "answered 429"),
        (500, "answered 500"),
        (503, "answered 503"),
        (302, "answered 302"),
        (200, "is not the console"),
    ],
)
def test_a_batch_that_is_not_taken_is_kept_and_sent_again(log: Log, console: Console, status: int, said: str) -> None:
    log.write(3)
    console.answers.append((status, {"Location": "http://127.0.0.1:1/"}))
    with stopped_cleanly(log.shipper(console.base)) as shipper:
        shipper.says(said)
        assert arrive(console, 3)
    assert console.batches == [3, 3]
    assert TOKEN not in shipper.output


def test_a_console_that_is_away_is_waited_for_and_retry_after_is_heeded(log: Log) -> None:
    log.write(3)
    port = free_port()
    with stopped_cleanly(log.shipper(f"http://127.0.0.1:{port}")) as shipper:
        shipper.says("cannot be asked")
        with Console(port) as console:
            console.answers.append((503, {"Retry-After": "2"}))
            assert eventually(lambda: console.batches)
            asked = time.monotonic()
            assert arrive(console, 3)
            assert time.monotonic() - asked > 1.9
            shipper.says("takes events again")


def test_a_body_that_is_too_large_for_a_proxy_is_halved(log: Log, console: Console) -> None:
    log.write(100)
    console.most = 30
    with stopped_cleanly(log.shipper(console.base)):
        assert arrive(console, 100)
    assert console.batches == [100, 50, 25, 25, 25, 25]


def test_what_is_rejected_is_written_down_and_stops_nothing(log: Log, console: Console) -> None:
    log.write(3)
    console.rejects = {"/2"}
    rejects = log.folder / "rejects"
    with stopped_cleanly(log.shipper(console.base, "--rejects", str(rejects))) as shipper:
        assert arrive(console, 2)
        log.write(1)
        assert arrive(console, 3)
    (rejected,) = [json.loads(text) for text in rejects.read_text().splitlines()]
    assert (rejected["code"], rejected["event"]["id"]) == ("too_old", "id-2")
    assert rejects.stat().st_mode & 0o077 == 0
    assert "rejected 1" in shipper.output


def test_broken_lines_are_counted_and_left_out(log: Log, console: Console) -> None:
    log.write(1)
    with log.path.open("ab") as file:
        file.write(b"no JSON\n\xff\xfe\n\n{}\n")
    log.write(1)
    with stopped_cleanly(log.shipper(console.base)) as shipper:
        assert arrive(console, 2)
    assert "broken lines 3" in shipper.output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_shipper_that_ends_before_its_batch_is_taken_sends_it_the_next_time(
    log: Log, console: Console, number: signal.Signals
) -> None:
    log.write(3)
    console.answers.extend([(503, {})] * 1_000)
    with log.shipper(console.base) as shipper:
        shipper.says("answered 503")
        shipper.process.send_signal(number)
        if number is signal.SIGTERM:
            # What is there it still tries to send, for a while; then it goes without having lost anything.
            console.answers.clear()
            assert shipper.ends() == 0
        else:
            shipper.ends()
            console.answers.clear()
    with stopped_cleanly(log.shipper(console.base)):
        log.write(1)
        assert arrive(console, 4)


def test_an_answer_that_is_lost_doubles_nothing(log: Log, console: Console) -> None:
    log.write(3)
    with log.shipper(console.base):
        assert arrive(console, 3)
    # Killed, perhaps before it had written down its place; and here certainly.
    log.state.unlink()
    with stopped_cleanly(log.shipper(console.base)) as shipper:
        shipper.says("Accepted 0, duplicates 3")
    assert len(console.events) == 3


def test_a_token_in_a_file_is_read_again_because_it_may_have_been_rotated(log: Log, console: Console) -> None:
    file = log.folder / "token"
    file.write_text("kt_gt_old\n")
    command = [sys.executable, "-S", "-m", "gateways.shipping", "--format", "nginx", "--console", console.base]
    command += ["--state", str(log.state), str(log.path)]
    with stopped_cleanly(running(command, clean_environment(KEEPTRUSTS_GATEWAY_TOKEN_FILE=str(file)))):
        log.write(1)
        assert arrive(console, 1)
        file.write_text("kt_gt_new\n")
        log.write(1)
        assert arrive(console, 2)
    assert console.tokens == ["kt_gt_old", "kt_gt_new"]


def from_standard_input(console: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-S", "-m", "gateways.shipping", "--format", "nginx", "--console", console, "-"]
    environment = clean_environment(KEEPTRUSTS_GATEWAY_TOKEN=TOKEN)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_standard_input_is_shipped_as_it_comes_and_to_its_end(console: Console) -> None:
    with from_standard_input(console.base) as shipper:
        assert shipper.stdin
        shipper.stdin.write(line(1).encode() + b"\n" + line(2).encode()[:20])
        shipper.stdin.flush()
        assert arrive(console, 1)
        shipper.stdin.write(line(2).encode()[20:] + b"\n")
        shipper.stdin.write(b"".join(line(number).encode() + b"\n" for number in range(3, 3_001)))
        shipper.stdin.write(line(3_001).encode())
        shipper.stdin.close()
        assert shipper.wait(30) == 0
    assert len(console.events) == 3_001


def test_standard_input_is_drained_at_sigterm(console: Console) -> None:
    with from_standard_input(console.base) as shipper:
        assert shipper.stdin
        shipper.stdin.write(line(1).encode() + b"\n")
        shipper.stdin.flush()
        assert arrive(console, 1)
        shipper.stdin.write(line(2).encode() + b"\n")
        shipper.stdin.flush()
        shipper.send_signal(signal.SIGTERM)
        assert shipper.wait(30) == 0
    assert len(console.events) == 2


def test_a_copy_of_its_folder_is_all_that_it_needs(log: Log, console: Console, tmp_path: Path) -> None:
    house = tmp_path / "copy" / "gateways"
    shutil.copytree(ROOT / "gateways" / "shipping", house / "shipping")
    shutil.copy(ROOT / "gateways" / "__init__.py", house)
    log.write(1)
    shipper = shipping("nginx", console.base, TOKEN, log.path, log.state, folder=house.parent)
    with stopped_cleanly(shipper):
        assert arrive(console, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--state", "position", "--console", "keys.example.com"], "no http or https address"),
        (["--console", "http://keys.example.com"], "--state goes with a log file"),
        (["--state", "access.log.position", "--console", "http://keys.example.com"], "looks like a rotation"),
        (["--state", "nowhere/position", "--console", "http://keys.example.com"], "No such file"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(tmp_path: Path, options: list[str], said: str) -> None:
    assert said in refused(tmp_path, [*options, "access.log"], KEEPTRUSTS_GATEWAY_TOKEN=TOKEN)


@pytest.mark.parametrize("token", ["", "  ", "two words"])
def test_without_a_token_it_does_not_start(tmp_path: Path, token: str) -> None:
    options = ["--state", "position", "--console", "http://keys.example.com", "access.log"]
    said = refused(tmp_path, options, KEEPTRUSTS_GATEWAY_TOKEN=token)
    assert "KEEPTRUSTS_GATEWAY_TOKEN_FILE" in said
    assert "two words" not in said


def refused(folder: Path, options: list[str], **environment: str) -> str:
    command = [sys.executable, "-S", "-m", "gateways.shipping", "--format", "nginx", *options]
    with running(command, clean_environment(PYTHONPATH=str(ROOT), **environment), folder) as shipper:
        assert isinstance(shipper, Watched)
        assert shipper.ends() == 2
        return shipper.output

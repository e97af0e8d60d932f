"""What a web process and a worker that really run let out: in their answers, and in their logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from access import tokens
from access.tokens import TokenKind
from keeptrusts.web import web_command
from tests.processes import ROOT, Watched, clean_environment, eventually, manage, running
from tests.servers import free_port

pytestmark = [pytest.mark.once, pytest.mark.xdist_group("console")]
# Of what is inside: files, modules, classes, SQL.
INSIDE: Final = re.compile(r"Traceback|\.py|Leaking|django|Exception|sqlite|SELECT|could not connect", re.IGNORECASE)


@dataclass
class Web:
    """One web process, with addresses that fail (tests/failing.py), behind one trusted proxy."""

    client: httpx.Client
    port: int
    watched: Watched
    environment: dict[str, str]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def logged(self, wanted: str) -> list[dict[str, Any]]:
        """Return the records so far that have `wanted` in them, once there is one."""
        assert eventually(lambda: wanted in self.watched.output), self.watched.output
        lines = [line for line in self.watched.output.splitlines() if wanted in line]
        return [json.loads(line) for line in lines]

    def raw(self, request: bytes) -> bytes:
        """Return what is answered to these bytes, until the other side closes or two seconds are silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(request)
            found = b""
            try:
                while part := connection.recv(65_536):
                    found += part
            except (TimeoutError, ConnectionResetError):
                pass
            return found


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    port = free_port()
    environment = clean_environment(
        KEEPTRUSTS_DATA_DIR=str(tmp_path_factory.mktemp("surface")),
        KEEPTRUSTS_LOG_FORMAT="json",
        KEEPTRUSTS_TRUSTED_PROXIES="1",
        PORT=str(port),
        PYTHONPATH=str(ROOT),
        GRANIAN_LOG_ACCESS_ENABLED="true",
        GRANIAN_LOG_ACCESS_FMT="%(method)s %(path)s?%(query_string)s %(header{x-canary})s",
    )
    manage(environment, "migrate", "--verbosity", "0")
    manage(environment, "collectstatic", "--no-input", "--verbosity", "0")
    command = web_command("127.0.0.1", port, application="tests.failing:application")
    command[command.index("warning")] = "info"
    with running(command, environment) as watched, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def answers() -> bool:
            try:
                return client.get("/gateway/v1/authorize").status_code == 403
            except httpx.TransportError:
                return False

        assert eventually(answers, 60), watched.output
        yield Web(client, port, watched, environment)
        watched.process.send_signal(signal.SIGTERM)
        watched.ends()


@pytest.fixture
def canary() -> str:
    return tokens.generate(TokenKind.GATEWAY_KEY)


def shown(value: str, text: str) -> bool:
    """Say whether more of a value than its hint is in the text."""
    return value[10:18] in text.lower()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_value_in_any_part_of_a_request_reaches_no_log_of_the_web_process(web: Web, canary: str) -> None:
    asked = [
        web.get(f"/admin/login/?key={canary}", x_canary=canary, referer=f"http://x/{canary}", user_agent=canary),
        web.get(f"/{canary}/", x_canary=canary),
        web.get("/admin/", cookie=f"keeptrusts_session={canary}"),
        web.get(f"/api/v1/gateway-keys/?search={canary}", authorization=f"Bearer {canary}"),
        web.get(f"/gateway/v1/authorize/{canary}", x_keeptrusts_gateway_token=canary, authorization=f"Bearer {canary}"),
        web.client.post("/api/v1/gateway-keys/", content=f'{{"name": "{canary}"', headers={"X-Canary": canary}),
        web.client.post("/admin/login/", data={"username": canary, "password": canary}),
        web.get("/", host=f"{canary}.example.com", x_canary=canary),
        web.get("/logged/", x_canary=canary, authorization=f"Bearer {canary}"),
        web.get("/fail/", x_canary=canary),
        web.get("/unavailable/", x_canary=canary),
    ]
    assert [answer.status_code for answer in asked] == [200, 404, 302, 401, 403, 401, 403, 400, 200, 500, 503]
    for event in ("SELECT", "headers {", "Leaking", "could not connect", "granian.access"):
        assert web.logged(event), event
    assert not shown(canary, web.watched.output)
    assert canary[:10] in web.watched.output


def test_every_line_that_the_web_process_writes_is_json(web: Web, canary: str) -> None:
    web.get("/fail/", x_canary=canary)
    [record, *_] = web.logged("Internal Server Error")
    assert (record["logger"], record["level"], record["exception_type"]) == ("django.request", "ERROR", "Leaking")
    for line in web.watched.output.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys(), line


def test_a_worker_logs_no_argument_of_a_task_that_lets_in(web: Web, canary: str) -> None:
    send = (
        "import sys; from keeptrusts.celery import app; value = sys.argv[1]\n"
        "app.send_task('audit.tasks.seal', args=[value], kwargs={value: value})\n"
        "app.send_task('no.such.task', args=[value], kwargs={'key': value})\n"
        "app.send_task('audit.tasks.seal')\n"
    )
    environment = {**web.environment, "DJANGO_SETTINGS_MODULE": "keeptrusts.settings"}
    with running([sys.executable, "-c", send, canary], environment) as sender:
        assert sender.ends(60) == 0
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "keeptrusts", "worker", "--pool", "threads"]
    command += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with running(command, environment) as worker:
        worker.says("no.such.task")
        worker.says("raised unexpected")
        worker.process.send_signal(signal.SIGTERM)
        worker.ends()
    assert not shown(canary, worker.output)
    # A signal to stop is told on stdout by Celery itself.
    records = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    assert {"celery.app.trace", "celery.worker.consumer.consumer"} <= {record["logger"] for record in records}


# --- error pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code"), [("fail/", 500, "server_error"), ("unavailable/", 503, "unavailable")]
)
def test_what_fails_says_nothing_of_the_inside_but_which_request_it_was(
    web: Web, canary: str, path: str, status: int, code: str
) -> None:
    page, answer = web.get(f"/{path}", x_canary=canary), web.get(f"/api/v1/{path}", x_canary=canary)
    assert (page.status_code, answer.status_code) == (status, status)
    for each in (page, answer):
        assert not shown(canary, each.text)
        assert not INSIDE.search(re.sub(r'(?:href|src)="[^"]*"', "", each.text))
        assert each.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Request-ID"] in page.text
    assert answer.json()["code"] == code
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    # The number leads to the cause.
    assert any(
        "Leaking" in json.dumps(r) or "connect" in json.dumps(r) for r in web.logged(page.headers["X-Request-ID"])
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


@pytest.mark.parametrize("path", ["/api/v1/gateway-keys/", "/admin/login/"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(web: Web, path: str) -> None:
    declared = web.raw(head(path, "Content-Length: 99999999999", "Connection: close"))
    assert declared.startswith(b"HTTP/1.1 413 ")
    assert b"is too large" in declared
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    endless = web.raw(head(path, "Transfer-Encoding: chunked", "Connection: close") + chunk * 17)
    assert endless.startswith(b"HTTP/1.1 413 ")
    assert (b'"code": "body_too_large"' in endless) == path.startswith("/api/")


@pytest.mark.parametrize("path", ["/admin/login/", "/api/v1/me/", "/gateway/v1/authorize"])
def test_headers_that_are_too_large_or_too_many_are_refused(web: Web, path: str) -> None:
    large = web.raw(head(path, f"X-Large: {'x' * 200_000}", "Connection: close"))
    many = web.raw(head(path, *(f"X-{number}: x" for number in range(500)), "Connection: close"))
    assert large.startswith(b"HTTP/1.1 431 ")
    assert many.startswith(b"HTTP/1.1 431 ")


def test_a_proxy_of_ours_names_the_request_and_nobody_names_it_badly(web: Web, canary: str) -> None:
    assert web.get("/admin/login/", x_request_id="edge-4711.abcdef").headers["X-Request-ID"] == "edge-4711.abcdef"
    for bad in ("short", "x" * 65, "with space in it", canary, 'quote"d-and-more'):
        assert re.fullmatch("[0-9a-f]{32}", web.get("/admin/login/", x_request_id=bad).headers["X-Request-ID"]), bad


def test_every_answer_has_an_id_of_its_own(web: Web) -> None:
    paths = ("/", "/admin/", "/admin/login/", "/no/such/", "/api/v1/me/", "/api/docs/", "/static/keeptrusts/icon.svg")
    found = [web.get(path).headers.get_list("X-Request-ID") for path in paths]
    assert [len(ids) for ids in found] == [1] * len(paths)
    assert len({ids[0] for ids in found}) == len(paths)


def test_nothing_of_a_value_is_in_the_files_of_the_installation(web: Web, canary: str) -> None:
    web.get("/fail/", x_canary=canary)
    web.client.post("/admin/login/", data={"username": canary, "password": canary})
    folder = Path(web.environment["KEEPTRUSTS_DATA_DIR"])
    kept = [Path(place) / name for place, _, names in os.walk(folder / "queue") for name in names]
    kept += [*folder.glob("*.sqlite3*")]
    assert kept
    assert not [path for path in kept if canary[10:].encode() in path.read_bytes()]

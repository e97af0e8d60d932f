"""What gateways have served comes back through the shipper: each request once, whoever is killed meanwhile."""

from __future__ import annotations

import os
import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.gateways.real.conftest import Real, each_gateway
from tests.gateways.real.console import Console, Key
from tests.gateways.real.gateways import Gateway, running_gateway
from tests.gateways.real.servers import Application
from tests.gateways.shippers import shipping, stopped_cleanly
from tests.processes import eventually

CLIENTS = 4


@each_gateway()
def test_usage_comes_back_with_status_and_latency(
    name: str, real: Real, console: Console, token: str, tmp_path: Path
) -> None:
    gateway, key, before = real(name), console.key(f"shipped from {name}"), datetime.now(UTC)
    number = secrets.token_hex(8)
    for method, target in (("GET", "/v1"), ("POST", "/answer/404"), ("PUT", "/answer/500")):
        gateway.ask(f"{target}/{number}?query=left+out", key.value, method=method)
    gateway.ask("/search/v1?known", "kt_gk_nonsense")
    real(name, "console, for nothing").ask("/v1", key.value)
    with stopped_cleanly(shipping(name, console.base, token, gateway.log, tmp_path / "position")) as shipper:
        assert eventually(lambda: console.total_requests(key) == 3), shipper.output
    away = real(name, "console, for nothing")
    with stopped_cleanly(shipping(name, console.base, token, away.log, tmp_path / "another")) as shipper:
        assert eventually(lambda: console.total_requests(key) == 4), shipper.output
    events = sorted(console.events(key), key=lambda event: event["status"])
    assert [(event["method"], event["path"], event["status"]) for event in events] == [
        ("GET", f"/v1/{number}", 200),
        ("POST", f"/answer/404/{number}", 404),
        ("PUT", f"/answer/500/{number}", 500),
        ("GET", "/v1", 503 if name == "envoy" else 502),
    ]
    for event in events:
        assert event["outcome"] == "served"
        assert event["client_ip"] == "127.0.0.1"
        assert len(event["decision_id"]) == 32
        assert 0 <= event["latency_ms"] < 15_000
        # Their clocks are one; a log that counts in milliseconds rounds.
        assert before - timedelta(seconds=1) < datetime.fromisoformat(event["occurred_at"]) < datetime.now(UTC)


@pytest.mark.needs("caddy")
def test_caddy_tells_the_key_in_its_answers_over_whatever_the_application_says(real: Real, console: Console) -> None:
    key = console.key("told by Caddy")
    for target in ("/v1", "/answer/500"):
        # The application claims to know another.
        assert real("caddy").ask(target, key.value).headers["x-keeptrusts-key-id"] == key.id
    assert "x-keeptrusts-key-id" not in real("caddy").ask("/v1", "kt_gk_nonsense").headers


@each_gateway()
def test_whatever_a_client_asks_for_its_request_is_counted(
    name: str, real: Real, console: Console, token: str, tmp_path: Path
) -> None:
    gateway, key = real(name), console.key(f"odd requests through {name}")
    odd = [
        b"PROPFINDPROPFINDPROPFIND /v1",
        b"GET /" + b"x" * 4_000,
        b'GET /"}\\u0000%00%0a\\ud800{"',
        b"GET //",
        b"GET /\xff\xe9",
        b"GET http://example.com/absolute",
    ]
    # What a gateway refuses to read it does not ask about either.
    asked = [gateway.ask_raw(request, key.value) not in {400, 403, 503} for request in odd]
    assert sum(asked) >= 3
    with stopped_cleanly(shipping(name, console.base, token, gateway.log, tmp_path / "position")) as shipper:
        assert eventually(lambda: console.total_requests(key) == sum(asked)), (asked, shipper.output)
    assert "rejected 0" in shipper.output


def ask_many(gateway: Gateway, key: Key, number: int) -> None:
    """Send so many requests over a few connections, each of which must be served."""

    def ask(share: int) -> None:
        with gateway.connect() as connection:
            for _ in range(share):
                connection.request("GET", "/v1", headers={"Authorization": f"Bearer {key.value}"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, [number // CLIENTS] * CLIENTS))


@pytest.mark.needs("nginx")
def test_a_thousand_requests_are_a_thousand_although_shipper_and_console_are_killed(
    console: Console, application: Application, token: str, tmp_path: Path
) -> None:
    key, state = console.key("a thousand"), tmp_path / "position"
    with running_gateway(
        "nginx", authorize=console.port, application=application.port, token=token, folder=tmp_path
    ) as nginx:
        shipper = ("nginx", console.base, token, nginx.log, state)
        ask_many(nginx, key, 240)
        with shipping(*shipper):
            assert eventually(lambda: console.total_requests(key) > 0)
            ask_many(nginx, key, 240)
        # It ended with SIGKILL, wherever it was.
        ask_many(nginx, key, 240)
        with shipping(*shipper) as killed:
            console.kill()
            killed.says("cannot be asked")
            console.start()
            ask_many(nginx, key, 80)
            nginx.log.rename(tmp_path / "keeptrusts.log.1")
            os.kill(nginx.process.process.pid, signal.SIGUSR1)
            assert eventually(nginx.log.exists)
            ask_many(nginx, key, 200)
        with stopped_cleanly(shipping(*shipper)) as shipped:
            assert eventually(lambda: console.total_requests(key) == 1_000, 30), shipped.output
        # All of it once more, from the beginning of both files.
        state.unlink()
        for log in (tmp_path / "keeptrusts.log.1", nginx.log):
            with stopped_cleanly(shipping("nginx", console.base, token, log, state)) as shipped:
                shipped.says("Accepted 0, duplicates [1-9]", 10)
            state.unlink()
    assert console.total_requests(key) == 1_000

"""A real console, web, worker and beat, on a database of its own: the life of a key seen from outside, and canaries.

The canaries are every secret that was ever given out; afterwards they are looked for wherever something can be kept.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from access import tokens
from access.tokens import TokenKind
from tests.processes import Watched, clean_environment, eventually, manage, running
from tests.served import own_database
from tests.servers import free_port

PASSWORD = "a canary may sing here, too"
VALUE = re.compile(r"kt_(?:gk|gt|ak)_[a-z0-9]{32}")


@dataclass(slots=True)
class Live:
    """A console that runs, what calls it, and every secret it has given out."""

    base: str
    console: Watched
    environment: dict[str, str]
    folder: Path
    admin: httpx.Client
    auditor: httpx.Client
    canaries: list[str] = field(default_factory=list)

    def api(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        answer = self.admin.request(method, "/api/v1" + path, json=body, headers=headers)
        assert answer.status_code in {200, 201}, (method, path, answer.status_code, answer.text)
        self.canaries += VALUE.findall(answer.text)
        return answer.json()

    def authorize(self, token: str, value: str, **headers: str) -> httpx.Response:
        sent = {"X-Keeptrusts-Gateway-Token": token, "Authorization": f"Bearer {value}", **headers}
        return httpx.get(self.base + "/gateway/v1/authorize", headers=sent)


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with own_database("end_to_end") as url:
        yield url


@pytest.fixture(scope="module")
def live(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder, port = tmp_path_factory.mktemp("console"), free_port()
    environment = clean_environment(
        KEEPTRUSTS_DATA_DIR=str(folder),
        PORT=str(port),
        KEEPTRUSTS_ADMIN_PASSWORD=PASSWORD,
        KEEPTRUSTS_LOG_LEVEL="DEBUG",
    )
    if database_url:
        environment |= {"DATABASE_URL": database_url, "REDIS_URL": os.environ["REDIS_URL"]}
        environment |= {"KEEPTRUSTS_SECRET_KEY": secrets.token_urlsafe(50)}
    # A failing test shows what the console said; each request of ours beside it would drown that.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    base = f"http://127.0.0.1:{port}"
    with (
        running([sys.executable, "manage.py", "up", "--prepare"], environment) as console,
        httpx.Client(base_url=base, timeout=30) as admin,
        httpx.Client(base_url=base, timeout=30) as auditor,
    ):
        console.says("Keeptrusts is ready", 120)
        it = Live(base, console, environment, folder, admin, auditor)
        manage(it.environment, "create_member", "amy", "--role", "auditor", stdin=PASSWORD + "\n")
        for client, username in ((admin, "admin"), (auditor, "amy")):
            value = manage(it.environment, "create_access_key", username, "--name", "end to end").strip()
            it.canaries.append(value)
            client.headers["Authorization"] = f"Bearer {value}"
        yield it
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 0
        assert "Traceback" not in console.output


def test_a_key_lives_as_the_tutorial_says_and_no_value_is_kept_anywhere(live: Live) -> None:
    token = live.api("POST", "/gateways/", {"name": "edge"})["token"]
    live.api("POST", "/consumer-groups/", {"name": "Payments", "slug": "payments"})
    key = live.api("POST", "/gateway-keys/", {"name": "prod", "consumer_group": "payments"})
    value = key["value"]
    allowed = live.authorize(token, value)
    assert (allowed.status_code, allowed.headers["X-Keeptrusts-Key-Id"], allowed.content) == (200, key["id"], b"")
    assert live.authorize(token, value, **{"X-Keeptrusts-Consumer-Group": "other"}).status_code == 403

    rotated = live.api("POST", f"/gateway-keys/{key['id']}/rotate/", {"grace_seconds": 3_600})
    assert [live.authorize(token, each).status_code for each in (value, rotated["value"])] == [200, 200]
    live.api("POST", f"/gateway-keys/{key['id']}/end-grace/", {})
    ended = live.authorize(token, value)
    assert (ended.status_code, ended.headers["X-Keeptrusts-Reason"]) == (401, "grace_over")
    assert eventually(lambda: _metrics(live, key["id"])["total_requests"] == 3)

    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    brief = live.api("POST", "/gateway-keys/", {"name": "brief", "expires_at": soon})
    assert live.authorize(token, brief["value"]).status_code == 200
    assert eventually(lambda: live.authorize(token, brief["value"]).status_code == 401)
    assert eventually(lambda: "gateway_key.expired" in _actions(live, brief["id"]), 60), "beat and worker recorded it"

    live.api("POST", f"/gateway-keys/{key['id']}/revoke/", {"reason": "the end"})
    revoked = live.authorize(token, rotated["value"])
    assert (revoked.status_code, revoked.headers["X-Keeptrusts-Reason"]) == (401, "key_revoked")
    assert _actions(live, key["id"]) == {
        f"gateway_key.{verb}" for verb in ("created", "rotated", "grace_ended", "revoked")
    }
    assert live.auditor.post("/api/v1/gateway-keys/", json={"name": "no"}).status_code == 403
    assert eventually(lambda: live.auditor.get("/api/v1/audit-entries/verify/").json()["pending"] == 0, 30)
    assert live.auditor.get("/api/v1/audit-entries/verify/").json()["valid"] is True

    _careless(live, token)
    reports = live.api("POST", "/gateways/", {"name": "reporting", "usage_source": "report"})["token"]
    _careless_report(live, reports)
    _canaries_are_nowhere(live)


def _metrics(live: Live, key_id: str) -> Any:
    return live.api("GET", f"/gateway-keys/{key_id}/metrics/")


def _actions(live: Live, key_id: str) -> set[str]:
    return {entry["action"] for entry in live.api("GET", f"/audit-entries/?object_id={key_id}")["results"]}


def _careless(live: Live, token: str) -> None:
    """Everything that people do with secrets in the wrong places; none of it may be kept."""
    canary = tokens.generate(TokenKind.GATEWAY_KEY)
    live.canaries.append(canary)
    careless_gateway(live, token, canary)
    careless_automation(live, canary)
    careless_sign_in(live, canary)
    exports_are_clean(live)


def careless_gateway(live: Live, token: str, canary: str) -> None:
    live.authorize(token, canary, **{"User-Agent": canary, "X-Keeptrusts-Client-IP": canary, "Referer": canary})
    live.authorize(token, canary + "x", **{"X-Keeptrusts-Consumer-Group": canary})
    live.authorize(canary, canary)
    httpx.get(f"{live.base}/gateway/v1/authorize/{canary}?api_key={canary}")
    httpx.post(
        f"{live.base}/gateway/v1/introspect", data={"token": canary}, headers={"Authorization": f"Bearer {token}"}
    )
    httpx.get(f"{live.base}/api/v1/{canary}/?q={canary}")
    httpx.get(f"{live.base}/{canary}")


def careless_automation(live: Live, canary: str) -> None:
    for method, path, body in (
        ("POST", "/gateway-keys/", {"name": f"key {canary}"}),
        ("POST", "/gateway-keys/", {"name": "k", "description": canary}),
        ("POST", "/gateway-keys/", {"name": "k", canary: canary}),
        ("POST", "/gateway-keys/", {"name": "k", "allowed_networks": [canary]}),
        ("POST", "/gateway-keys/", {"name": "k", "consumer_group": canary}),
        ("POST", "/consumer-groups/", {"name": canary, "slug": "s"}),
        ("POST", "/gateways/", {"name": canary}),
        ("GET", f"/gateway-keys/?search={canary}", None),
        ("GET", f"/gateway-keys/export.csv?search={canary}", None),
        ("GET", f"/gateway-keys/{canary}/", None),
    ):
        answer = live.admin.request(method, "/api/v1" + path, json=body, headers={"Idempotency-Key": canary})
        assert answer.status_code < 500, (path, answer.text)


def careless_sign_in(live: Live, canary: str) -> None:
    with httpx.Client(base_url=live.base) as browser:
        page = browser.get("/admin/login/")
        form = {"username": canary, "password": canary, "csrfmiddlewaretoken": browser.cookies["keeptrusts_csrf"]}
        assert browser.post("/admin/login/", data=form, headers={"Referer": live.base}).status_code == page.status_code


def exports_are_clean(live: Live) -> None:
    for path in ("/gateway-keys/", "/usage-events/", "/audit-entries/"):
        export = live.auditor.get(f"/api/v1{path}export.csv")
        assert export.status_code == 200
        assert len(export.text.splitlines()) > 1, f"{path} gave out its header alone"
        assert not VALUE.search(export.text)


def _careless_report(live: Live, token: str) -> None:
    """A gateway that reports a secret as part of a path or a model."""
    key = live.api("POST", "/gateway-keys/", {"name": "reported"})
    canary = key["value"]
    event = {
        "id": "1",
        "occurred_at": datetime.now(UTC).isoformat(),
        "key_id": key["id"],
        "key_version": 1,
        "status": 200,
        "path": f"/v1/chat?key={canary}",
        "model": canary,
    }
    sent = httpx.post(
        f"{live.base}/gateway/v1/usage", json={"events": [event]}, headers={"X-Keeptrusts-Gateway-Token": token}
    )
    assert sent.status_code == 200, sent.text


def _canaries_are_nowhere(live: Live) -> None:
    """Neither as text nor hex nor bytes, in the database, Redis, the broker's folder, what was logged, or a command."""
    assert len(set(live.canaries)) > 8
    places = places_of(live)
    assert sum(map(len, places.values())) > 10_000
    for canary in set(live.canaries):
        assert kept_in(places, canary) == []
    assert any(b"kt_gk_" in content for content in places.values()), "hints are there: the search sees what it should"


def kept_in(places: dict[str, bytes], canary: str) -> list[str]:
    secret = canary[10:]  # the hint may be shown
    forms = (secret.encode(), secret.encode().hex().encode(), json.dumps(secret).encode())
    return [place for place, content in places.items() if any(form in content for form in forms)]


def places_of(live: Live) -> dict[str, bytes]:
    """Return everything where something can be kept, by what it is called."""
    places = {"log": live.console.output.encode(), **_files(live.folder)}
    places["processes"] = b"\n".join(
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    )
    if url := live.environment.get("DATABASE_URL"):
        places |= _tables(url) | _redis(live.environment["REDIS_URL"])
    else:
        places |= _sqlite(live.folder / "keeptrusts.sqlite3")
    return places


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "static" not in path.parts}


def _sqlite(file: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(file)) as database:
        return {"dump": "\n".join(database.iterdump()).encode()}


def _tables(url: str) -> dict[str, bytes]:
    with psycopg.connect(url) as database:
        names = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: "\n".join(row[0] for row in database.execute(f'SELECT t::text FROM "{name}" t').fetchall()).encode()
            for (name,) in names
        }


def _redis(url: str) -> dict[str, bytes]:
    with redis.Redis.from_url(url) as server:
        return {f"redis {key!r}": key + (server.dump(key) or b"") for key in server.scan_iter()}

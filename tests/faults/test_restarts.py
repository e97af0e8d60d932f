"""Redis and PostgreSQL restart, together too, and stand still for a while: under load, and nobody starts us anew."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from tests.faults.conftest import Fault
from tests.faults.plant import Caller
from tests.processes import Watched, clean_environment, descendants, eventually, manage, running
from tests.servers import KillableServer, free_port, killable_postgresql, killable_redis

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(900)]

# Seconds.
RECOVERY: Final = 10.0
JOBS_RESUME: Final = 60.0
AWAY: Final = 1.0
STANDS_STILL: Final = 4.0
CLIENTS = 4


@dataclass
class Site:
    """A whole console as `manage.py up` starts it, on servers of its own."""

    base: str
    console: Watched
    environment: dict[str, str]
    database: KillableServer
    redis: KillableServer
    admin: httpx.Client

    def api(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.admin.post(f"/api/v1{path}", json=body)
        assert answer.status_code in {200, 201}, (path, answer.status_code, answer.text)
        return answer.json()

    def last_job(self) -> datetime:
        with psycopg.connect(self.database.url) as connection:
            row = connection.execute("SELECT max(succeeded_at) FROM operations_jobrun").fetchone()
        return (row and row[0]) or datetime.min.replace(tzinfo=UTC)


@dataclass
class Load:
    """What gateways hear, all the time."""

    site: Site
    token: str
    good: str
    revoked: list[str]
    client: httpx.Client
    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    allowed_at: float = 0.0
    undecided_at: float = 0.0

    def ask(self, value: str) -> httpx.Response | None:
        try:
            return self.client.get(
                f"{self.site.base}/gateway/v1/authorize",
                headers={"X-Keeptrusts-Gateway-Token": self.token, "Authorization": f"Bearer {value}"},
            )
        except httpx.TransportError as error:
            with self.lock:
                self.wrong.append(f"no answer: {type(error).__name__}")
            return None

    def once(self) -> None:
        good, revoked = self.ask(self.good), self.ask(self.revoked[-1])
        with self.lock:
            if good is not None:
                self._count("good", good.status_code, {200, 503})
                moment = time.monotonic()
                if good.status_code == 200:
                    self.allowed_at = moment
                else:
                    self.undecided_at = moment
            if revoked is not None:
                self._count("revoked", revoked.status_code, {401, 503})
        time.sleep(0.02)

    def _count(self, what: str, status: int, right: set[int]) -> None:
        self.answers[f"{what} {status}"] += 1
        if status not in right:
            self.wrong.append(f"a {what} value was answered {status}")


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    with killable_postgresql() as database, killable_redis() as redis:
        port = free_port()
        environment = clean_environment(
            KEEPTRUSTS_DATA_DIR=str(folder),
            PORT=str(port),
            DATABASE_URL=database.url,
            REDIS_URL=redis.url,
            KEEPTRUSTS_SECRET_KEY=secrets.token_urlsafe(50),
        )
        base = f"http://127.0.0.1:{port}"
        with running([sys.executable, "manage.py", "up", "--prepare"], environment) as console:
            console.says("Keeptrusts is ready", 120)
            value = manage(environment, "create_access_key", "admin", "--name", "faults").strip()
            with httpx.Client(base_url=base, timeout=30, headers={"Authorization": f"Bearer {value}"}) as admin:
                yield Site(base, console, environment, database, redis, admin)


def restarted(*servers: KillableServer) -> None:
    for server in servers:
        server.kill()
    time.sleep(AWAY)
    for server in servers:
        server.restart()


def paused(*servers: KillableServer) -> None:
    """What a cut network looks like: connections stand, and nothing comes."""
    processes = [pid for server in servers for pid in (server.process.pid, *descendants(server.process.pid))]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STANDS_STILL)
    for pid in reversed(processes):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.fault("restarts", full=10)
def test_no_wrong_decision_and_all_goes_on_by_itself(fault: Fault, tmp_path: Path) -> None:
    with running_site(tmp_path) as site, httpx.Client(timeout=20) as client:
        both = (site.redis, site.database)
        faults: dict[str, Callable[[], None]] = {
            "Redis restarts": lambda: restarted(site.redis),
            "PostgreSQL restarts": lambda: restarted(site.database),
            "both restart": lambda: restarted(*both),
            "both stand still": lambda: paused(*both),
        }
        token = site.api("/gateways/", {"name": "edge"})["token"]
        load = Load(site, token, site.api("/gateway-keys/", {"name": "good"})["value"], [_revoked(site)], client)
        clients = [Caller(load.once) for _ in range(CLIENTS)]
        for caller in clients:
            caller.start()
        assert eventually(lambda: load.allowed_at > 0)
        slowest: Counter[str] = Counter()
        struck: Counter[str] = Counter()
        # In turn, so that a run whose time is over has tried all of them.
        for _ in fault.goes_on():
            for name, strike in faults.items() if fault.rounds > 1 else list(faults.items())[2:3]:
                load.revoked.append(_revoked(site))
                strike()
                _recovers(fault, load, name, slowest)
                struck[name] += 1
                fault.tried += 1
        fault.notes.append(", ".join(f"{name}: {times}" for name, times in struck.items()))
        for caller in clients:
            caller.stop()
        fault.wrong += load.wrong
        _counts_agree(fault, load)
        answers = ", ".join(f"{count} {what}" for what, count in sorted(load.answers.items()))
        slow = ", ".join(f"{name} {tenths / 10} s" for name, tenths in sorted(slowest.items()))
        anew = site.console.output.count("it is started anew")
        fault.notes.append(f"{answers}; slowest: {slow}; {anew} stalled programs started anew")
        fault.expect(site.console.process.poll() is None, "the console ended")


def _revoked(site: Site) -> str:
    key = site.api("/gateway-keys/", {"name": "to be revoked"})
    site.api(f"/gateway-keys/{key['id']}/revoke/", {"reason": "a test"})
    value: str = key["value"]
    return value


def _recovers(fault: Fault, load: Load, name: str, slowest: Counter[str]) -> None:
    """Wait until gateways get decisions again and jobs run again, and keep how long that took."""
    back, since = time.monotonic(), datetime.now(UTC)
    decides = eventually(lambda: load.allowed_at > back + 0.1, JOBS_RESUME)
    took = time.monotonic() - back
    fault.expect(bool(decides) and took <= RECOVERY, f"{name}: decisions after {took:.1f} s")
    slowest[f"{name}: decisions"] = max(slowest[f"{name}: decisions"], round(10 * took))
    resumed = eventually(lambda: load.site.last_job() > since, JOBS_RESUME + 30)
    took = time.monotonic() - back
    fault.expect(bool(resumed) and took <= JOBS_RESUME, f"{name}: jobs after {took:.1f} s")
    slowest[f"{name}: jobs"] = max(slowest[f"{name}: jobs"], round(10 * took))


def _counts_agree(fault: Fault, load: Load) -> None:
    """Every request that was let through is counted, once."""
    sql = "SELECT coalesce(sum(total_requests), 0) FROM usage_keymetrics"
    allowed = load.answers["good 200"]

    def counted() -> int:
        load.site.admin.get("/api/v1/gateway-keys/")
        with psycopg.connect(load.site.database.url) as connection:
            row = connection.execute(sql).fetchone()
        return int(row[0]) if row else 0

    eventually(lambda: counted() == allowed, 20)
    fault.expect(counted() == allowed, f"{allowed} let through, {counted()} counted")
    fault.notes.append(f"{allowed} let through and {counted()} counted")

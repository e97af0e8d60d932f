"""A full disk, and a database that takes no writes: clear errors, 503 where it must be, nothing half-written."""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection

from audit import clock
from gateways.models import UsageSource
from tests.factories import make_gateway, make_key
from tests.faults.conftest import Fault
from tests.faults.plant import Plant, Web, disagreements
from tests.processes import descendants, eventually
from usage.models import KeyMetrics

pytestmark = pytest.mark.timeout(900)


MEBIBYTES = 96


class Console:
    """An Admin's script and two gateways, at one web process."""

    def __init__(self, web: Web, access_key: str) -> None:
        self.base = web.base
        self.token, self.counted = make_gateway().value, make_key()
        self.reporter, self.reported = make_gateway(usage_source=UsageSource.REPORT).value, make_key()
        self._admin = {"Authorization": f"Bearer {access_key}"}
        self._numbers = count()
        self.allowed = 0

    def changes(self) -> list[httpx.Response]:
        """Ask for one of each: what is written takes a page of its own."""
        name, text = f"new-{next(self._numbers)}", secrets.token_hex(900)
        made = self._post("/api/v1/gateway-keys/", {"name": name, "description": text})
        key = f"/api/v1/gateway-keys/{self.counted.key.pk}"
        return [
            made,
            self._post(f"{key}/rotate/", {"grace_seconds": 3_600}),
            self._post("/api/v1/consumer-groups/", {"name": name, "slug": name, "description": text}),
            self._post("/api/v1/gateways/", {"name": name}),
        ]

    def report(self) -> httpx.Response:
        """Report the use of a key of its own."""
        event = {"occurred_at": clock.now().isoformat(), "key_id": str(self.reported.key.pk), "key_version": 1}
        sent = {"X-Keeptrusts-Gateway-Token": self.reporter}
        events = [{**event, "id": secrets.token_hex(16), "status": 200}]
        return httpx.post(f"{self.base}/gateway/v1/usage", json={"events": events}, headers=sent, timeout=60)

    def authorize(self) -> httpx.Response:
        sent = {"X-Keeptrusts-Gateway-Token": self.token, "Authorization": f"Bearer {self.counted.value}"}
        answer = httpx.get(f"{self.base}/gateway/v1/authorize", headers=sent, timeout=60)
        self.allowed += answer.status_code == 200
        return answer

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.base + path, json=body, headers=self._admin, timeout=60)


def _strikes(fault: Fault, caller: Console, strike: AbstractContextManager[None], what: str, *, all_fail: bool) -> None:
    """Ask for changes while nothing, or nearly nothing, can be written, and again afterwards.

    all_fail: no write can succeed. Else one for which there is room may, and is there then, whole.
    """
    with strike:
        for answer in [*caller.changes(), caller.report()]:
            _is_clear(fault, answer, what, {503} if all_fail else {200, 201, 503, 409})
        _is_clear(fault, caller.authorize(), what, {200, 503})
        fault.expect(httpx.get(caller.base + "/healthz", timeout=60).status_code == 200, f"{what}: /healthz")
    recovered = eventually(lambda: caller.report().status_code == 200, 20)
    fault.expect(bool(recovered), f"{what}: reports are refused afterwards")
    statuses = [answer.status_code for answer in caller.changes()]
    fault.expect(statuses[0] == 201, f"{what}: changes are refused afterwards: {statuses}")
    metrics = KeyMetrics.objects.filter(key=caller.counted.key)
    eventually(lambda: metrics.filter(total_requests=caller.allowed).exists(), 20)
    counted = metrics.values_list("total_requests", flat=True).first()
    fault.expect(counted == caller.allowed, f"{what}: {caller.allowed} served, {counted} counted")


def _is_clear(fault: Fault, answer: httpx.Response, what: str, right: set[int]) -> None:
    fault.tried += 1
    told = f"{what}: {answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}"
    fault.expect(answer.status_code in right, told)
    if answer.status_code == 503:
        fault.expect("Retry-After" in answer.headers, f"{told}: no Retry-After")
        fault.expect("Traceback" not in answer.text and "rror:" not in answer.text, f"{told}: says too much")


@pytest.mark.postgresql
@pytest.mark.fault("disk", full=5)
def test_a_read_only_postgresql_changes_nothing_and_says_503(fault: Fault, plant: Plant) -> None:
    caller = Console(plant.web().start_and_wait(), plant.admin)
    for _ in range(fault.rounds):
        _strikes(fault, caller, read_only_postgresql(), "read-only", all_fail=True)
    plant.__exit__(None, None, None)
    fault.wrong += disagreements()
    fault.notes.append(f"PostgreSQL read-only, {fault.rounds} times")


@pytest.mark.postgresql
@pytest.mark.fault("disk", full=5)
def test_a_full_disk_under_postgresql_leaves_nothing_half_written(fault: Fault, plant: Plant) -> None:
    with small_disk(MEBIBYTES) as disk, database_on(disk):
        caller = Console(plant.web().start_and_wait(), plant.admin)
        for _ in range(fault.rounds):
            _strikes(fault, caller, full(disk), "full", all_fail=False)
        plant.__exit__(None, None, None)
        fault.wrong += disagreements()
    fault.notes.append(f"PostgreSQL on a full disk, {fault.rounds} times")


@pytest.mark.sqlite
@pytest.mark.fault("disk", full=5)
def test_a_full_disk_under_sqlite_leaves_nothing_half_written(
    fault: Fault, transactional_db: None, tmp_path: Path
) -> None:
    with small_disk(MEBIBYTES) as disk, database_on(disk), Plant(tmp_path) as plant:
        caller = Console(plant.web().start_and_wait(), plant.admin)
        for _ in range(fault.rounds):
            _strikes(fault, caller, full(disk), "full", all_fail=False)
        plant.__exit__(None, None, None)
        fault.wrong += disagreements()
    fault.notes.append(f"SQLite on a full disk, {fault.rounds} times")


@pytest.mark.sqlite
@pytest.mark.fault("disk", full=5)
def test_a_sqlite_that_takes_no_writes_changes_nothing_and_says_503(fault: Fault, plant: Plant) -> None:
    web = plant.web().start_and_wait()
    caller = Console(web, plant.admin)
    for _ in range(fault.rounds):
        _strikes(fault, caller, files_may_not_grow(web), "no writes", all_fail=True)
    plant.__exit__(None, None, None)
    fault.wrong += disagreements()
    fault.notes.append(f"SQLite without writes, {fault.rounds} times")


@contextmanager
def read_only_postgresql() -> Iterator[None]:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )
        try:
            yield
        finally:
            connection.close()
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s",
                [connection.settings_dict["NAME"]],
            )


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """Give a folder with a file system of its own. Skips the test where this user may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="keeptrusts-disk-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a file system of one's own takes the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Take all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def database_on(disk: Path) -> Iterator[None]:
    """Have the test's database on this disk."""
    if connection.vendor == "sqlite":
        home = connection.settings_dict["NAME"]
        connection.close()
        copy = disk / "keeptrusts.sqlite3"
        shutil.copy(home, copy)
        connection.settings_dict["NAME"] = str(copy)
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = home
        return
    place = disk / "tablespace"
    place.mkdir()
    owner = Path(f"/proc/{_server_pid()}").stat()
    for folder in (disk, place):
        os.chown(folder, owner.st_uid, owner.st_gid)
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        cursor.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        try:
            yield
        finally:
            connection.close()
            cursor.execute(f"ALTER DATABASE {name} SET TABLESPACE pg_default")
            cursor.execute("DROP TABLESPACE small")


@contextmanager
def files_may_not_grow(web: Web) -> Iterator[None]:
    """Let every write of the web process to a file fail, as on a file system that has become read-only."""
    assert web.watched
    processes = [web.watched.process.pid, *descendants(web.watched.process.pid)]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)) for pid in processes}
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _server_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return int(pid)

"""Web, workers and beats as real processes on the database of the test, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
from celery import Celery
from django.conf import settings
from django.db import connection

from access.rules import Role
from audit.models import AuditEntry
from audit.sealing import seal
from audit.verification import verify
from keeptrusts.web import web_command
from keys.models import GatewayKey
from tests.factories import make_access_key, make_member
from tests.processes import Watched, clean_environment, eventually, running
from tests.servers import free_port

CELERY = [sys.executable, "-m", "celery", "--quiet", "--app", "keeptrusts"]
WORKER = [*CELERY, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "WARNING"]
WORKER += ["--without-gossip", "--without-mingle"]


class Running:
    """One program of the plant."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._context: AbstractContextManager[Watched] | None = None
        self.watched: Watched | None = None

    def start(self) -> None:
        """Return at once; it may take its time to answer."""
        self._context = running(self._command, self._environment)
        self.watched = self._context.__enter__()

    def kill(self) -> None:
        """Return when nothing of it is left, without a word of farewell."""
        if self._context is None or self.watched is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.watched.process.pid, signal.SIGKILL)
        context, self._context = self._context, None
        context.__exit__(None, None, None)

    def terminate(self) -> int:
        """Ask it to end and return its exit status."""
        assert self.watched
        self.watched.process.send_signal(signal.SIGTERM)
        return self.watched.ends()


class Web(Running):
    """A web process on a port of its own."""

    def __init__(self, environment: Mapping[str, str], prefix: list[str], workers: str) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        command = [*prefix, *web_command("127.0.0.1", self.port, workers=workers)]
        super().__init__(command, {**environment, "PORT": str(self.port)})

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(self.base + "/gateway/v1/authorize", timeout=5).status_code == 403
        return False

    def start_and_wait(self) -> Self:
        self.start()
        assert eventually(self.answers, 60), self.watched and self.watched.output
        return self


class Plant:
    """Everything on the test's database. In its block; afterwards nothing of it runs."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        self._everything: list[Running] = []
        self.environment = clean_environment(
            KEEPTRUSTS_DATA_DIR=str(folder),
            # The same key signs checkpoints here and there.
            KEEPTRUSTS_SECRET_KEY=settings.SECRET_KEY,
            KEEPTRUSTS_AUDIT_ORIGIN=settings.KEEPTRUSTS_AUDIT_ORIGIN,
            KEEPTRUSTS_API_RATE="100000/s",
        )
        if connection.vendor == "postgresql":
            address = urlsplit(os.environ["DATABASE_URL"])
            name = connection.settings_dict["NAME"]
            self.environment["DATABASE_URL"] = urlunsplit(address._replace(path=f"/{name}"))
            self.environment["REDIS_URL"] = os.environ["REDIS_URL"]
        else:
            (folder / "keeptrusts.sqlite3").symlink_to(Path(connection.settings_dict["NAME"]).resolve())
        self._closing = ExitStack()
        self._admin: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._everything:
            program.kill()

    def web(self, *, prefix: list[str] | None = None, workers: str = "1", **environment: str) -> Web:
        return self._keep(Web({**self.environment, **environment}, prefix or [], workers))

    def worker(self) -> Running:
        return self._keep(Running(WORKER, self.environment))

    def beat(self, number: int = 1) -> Running:
        file = Path(self.environment["KEEPTRUSTS_DATA_DIR"]) / f"schedule-{number}"
        return self._keep(Running([*CELERY, "beat", "--pidfile", "", "--schedule", str(file)], self.environment))

    def send(self, *tasks: str) -> None:
        """Send tasks as beat would."""
        with Celery(broker=self.environment["REDIS_URL"], set_as_current=False) as sender:
            for task in tasks:
                sender.send_task(task, ignore_result=True, expires=60)

    @property
    def admin(self) -> str:
        """An Admin's access key."""
        if self._admin is None:
            self._admin = make_access_key(make_member(Role.ADMIN)).value
        return self._admin

    def _keep[R: Running](self, program: R) -> R:
        self._everything.append(program)
        return program


class Caller(threading.Thread):
    """Does the same thing over and over, until it is told to stop; what it raises is kept."""

    def __init__(self, do: Any) -> None:
        super().__init__(daemon=True)
        self._do = do
        self._over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._do()
        except BaseException as error:
            self.error = error
        finally:
            connection.close()

    def stop(self) -> None:
        self._over.set()
        self.join(60)
        if self.error is not None:
            raise self.error


def disagreements() -> list[str]:
    """Return every key whose rows and entries tell different stories, and what the audit log's verification finds."""
    told: dict[str, dict[str, int]] = {}
    for object_id, action in AuditEntry.objects.filter(object_type="gateway_key").values_list("object_id", "action"):
        verbs = told.setdefault(object_id, {})
        verbs[action] = verbs.get(action, 0) + 1
    found = []
    for key in GatewayKey.objects.prefetch_related("versions"):
        verbs = told.pop(str(key.pk), {})
        numbers = sorted(version.number for version in key.versions.all())
        rows = {
            "created": 1,
            "rotated": len(numbers) - 1,
            "revoked": int(key.revoked_at is not None),
            "expired": int(key.expiry_recorded_at is not None),
        }
        entries = {verb: verbs.get(f"gateway_key.{verb}", 0) for verb in rows}
        if rows != entries:
            found.append(f"{key.pk}: the rows say {rows}, the entries {entries}")
        current = [version for version in key.versions.all() if version.valid_until is None]
        if numbers != list(range(1, len(numbers) + 1)) or len(current) != 1:
            found.append(f"{key.pk}: versions {numbers}, {len(current)} current")
        if key.revoked_at and any(v.valid_until and v.valid_until > key.revoked_at for v in key.versions.all()):
            found.append(f"{key.pk} is revoked, and a version outlives it")
    found += [f"entries of {object_id}, which is not there" for object_id in told if object_id]
    seal()
    verdict = verify()
    found += [problem.detail for problem in verdict.problems]
    return found + ([f"{verdict.pending} entries are not sealed"] if verdict.pending else [])

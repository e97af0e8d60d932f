"""A console and data plane that a test serves for real, on a database of its own, and can kill and start again."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from django.db import connection

from tests.processes import Watched, clean_environment, eventually, manage, running
from tests.servers import free_port

PASSWORD = "a password of a console that lives for a test"


@contextmanager
def own_database(name: str) -> Iterator[str]:
    """Give the DATABASE_URL of a new database of this home; empty for SQLite, which lies in its data directory."""
    if connection.vendor == "sqlite":
        yield ""
        return
    address = urlsplit(os.environ["DATABASE_URL"])
    name = f"{name}_{secrets.token_hex(4)}"
    with psycopg.connect(urlunsplit(address), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(address._replace(path=f"/{name}"))
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Served:
    """Web alone, without worker and beat: what is asked and reported needs neither."""

    def __init__(
        self, folder: Path, database_url: str, application: str = "keeptrusts.asgi", **environment: str
    ) -> None:
        self._application = application
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.environment = clean_environment(
            KEEPTRUSTS_DATA_DIR=str(folder),
            KEEPTRUSTS_SECRET_KEY=secrets.token_urlsafe(50),
            PORT=str(self.port),
            **environment,
        )
        if database_url:
            self.environment |= {"DATABASE_URL": database_url, "REDIS_URL": os.environ["REDIS_URL"]}
        manage(self.environment, "migrate", "--verbosity", "0")
        manage(self.environment, "create_member", "ada", "--role", "admin", stdin=PASSWORD + "\n")
        self.access_key = manage(self.environment, "create_access_key", "ada", "--name", "tests").strip()
        bearer = {"Authorization": f"Bearer {self.access_key}"}
        self._admin = httpx.Client(base_url=self.base, timeout=30, headers=bearer)
        self._running: AbstractContextManager[Watched] | None = None
        self.web: Watched | None = None

    def start(self) -> None:
        """Return when it answers."""
        server = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1"]
        server += ["--port", str(self.port), "--log-level", "warning", f"{self._application}:application"]
        self._running = running(server, self.environment)
        self.web = self._running.__enter__()
        assert eventually(self._answers, 30), self.web.output

    def kill(self) -> None:
        """Return when nothing of it is left, without a word of farewell."""
        if self._running and self.web:
            with suppress(ProcessLookupError):
                os.killpg(self.web.process.pid, signal.SIGKILL)
            self._running.__exit__(None, None, None)
            self._running = None

    def close(self) -> None:
        self.kill()
        self._admin.close()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the management API answers to an Admin."""
        answer = self._admin.request(method, "/api/v1" + path, json=body)
        assert answer.status_code in {200, 201}, (method, path, answer.status_code, answer.text)
        return answer.json()

    def access_key_of(self, role: str) -> str:
        """Add a member of this role and return the value of an access key of theirs."""
        name = f"{role}-{secrets.token_hex(4)}"
        manage(self.environment, "create_member", name, "--role", role, stdin=PASSWORD + "\n")
        return manage(self.environment, "create_access_key", name, "--name", "tests").strip()

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(self.base + "/gateway/v1/authorize").status_code == 403
        return False

"""A console served by granian in processes of its own, which a test may kill and start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.databases import own_database
from tests.factories import PASSWORD
from tests.processes import ROOT, Watched, clean_environment, descendants, eventually, running
from tests.servers import free_port

# Applies migrations, and prints the access key of an Admin.
PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("create_member", "admin", "--role", "admin")
call_command("create_access_key", "admin", "--name", "tests")
"""


@dataclass
class Console:
    """What the tests ask of the console, through its API."""

    port: int
    environment: dict[str, str]
    folder: Path
    access_key: str
    stack: ExitStack = field(default_factory=ExitStack)
    served: Watched | None = None
    # What earlier processes have said.
    said: str = ""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.said + (self.served.output if self.served else "")

    def start(self) -> None:
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--http", "1", "--no-ws"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers-kill-timeout", "5"]
        command += ["--log-level", "warning", "keeptrusts.asgi:application"]
        self.served = self.stack.enter_context(running(command, self.environment))
        assert eventually(self.answers, 60), self.output

    def kill(self) -> None:
        """End it with SIGKILL, all of its processes, wherever they are in what they do."""
        assert self.served
        pid = self.served.process.pid
        for each in [*descendants(pid), pid]:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.served.process.wait()
        self.stack.close()
        self.said, self.served = self.output, None

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base}/gateway/v1/authorize").status_code == 403
        return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.access_key}"}
        answer = httpx.request(method, f"{self.base}/api/v1{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code in {200, 201}, (method, path, answer.status_code, answer.text)
        return answer.json()

    def gateway(self, name: str, **particulars: Any) -> str:
        """Register a gateway and return its token."""
        return str(self.api("POST", "/gateways/", {"name": name, **particulars})["token"])

    def key(self, name: str, **particulars: Any) -> Key:
        made = self.api("POST", "/gateway-keys/", {"name": name, **particulars})
        return Key(made["id"], made["value"])

    def total_requests(self, key: Key) -> int:
        return int(self.api("GET", f"/gateway-keys/{key.id}/metrics/")["total_requests"])

    def events(self, key: Key) -> list[dict[str, Any]]:
        """Return the events of the key, as the API tells of them."""
        return list(self.api("GET", f"/usage-events/?key={key.id}&page_size=100")["results"])


@dataclass(frozen=True)
class Key:
    """A gateway key and its value."""

    id: str
    value: str


@contextmanager
def running_console(folder: Path) -> Iterator[Console]:
    """Run a console for the block, on a database of its own in this home."""
    port = free_port()
    with own_database() as database:
        environment = clean_environment(
            DJANGO_SETTINGS_MODULE="keeptrusts.settings", KEEPTRUSTS_DATA_DIR=str(folder), PORT=str(port), **database
        )
        command = [sys.executable, "-c", PREPARE]
        prepared = subprocess.run(
            command, cwd=ROOT, env=environment, input=PASSWORD + "\n", stdout=subprocess.PIPE, text=True, check=True
        )
        console = Console(port, environment, folder, prepared.stdout.strip())
        with console.stack:
            console.start()
            yield console


def as_lines(text: str) -> list[Any]:
    """Return the JSON of each line."""
    return [json.loads(line) for line in text.splitlines()]

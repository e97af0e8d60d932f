"""nginx, Envoy and Caddy, started with the files of deploy/gateways, in which only addresses and paths are others."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, Watched, clean_environment, eventually, running
from tests.programs import find_program
from tests.servers import free_port

NAMES = ("nginx", "envoy", "caddy")
FILES = {"nginx": "nginx.conf", "envoy": "envoy.yaml", "caddy": "Caddyfile"}


@dataclass
class Answer:
    """What a client got. headers: by their names in lower case, of several the last."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Gateway:
    """A gateway that runs. log: its access log; folder: all that it writes."""

    name: str
    port: int
    log: Path
    folder: Path
    process: Watched

    def connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))

    def ask(
        self,
        target: str,
        value: str | None = None,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Ask as a client of the gateway. value: the key's."""
        sent = dict(headers or {})
        if value is not None:
            sent["Authorization"] = f"Bearer {value}"
        with self.connect() as connection:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())

    def ask_raw(self, request: bytes, value: str) -> int:
        """Ask with a request line, or what a stranger makes of one, byte by byte; return the status."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            headers = b"Host: example.com\r\nConnection: close\r\nAuthorization: Bearer " + value.encode()
            connection.sendall(request + b" HTTP/1.1\r\n" + headers + b"\r\n\r\n")
            return int(connection.makefile("rb").readline().split()[1])


@contextmanager
def running_gateway(name: str, *, authorize: int, application: int, token: str, folder: Path) -> Iterator[Gateway]:
    """Run the gateway for the block. authorize, application: ports of what it asks and of what it protects."""
    port, log = free_port(), folder / "keeptrusts.log"
    text = (ROOT / "deploy" / "gateways" / FILES[name]).read_text()
    replaced = {
        "nginx": {
            "127.0.0.1:8000": f"127.0.0.1:{authorize}",
            "127.0.0.1:9000": f"127.0.0.1:{application}",
            "listen 8080": f"listen 127.0.0.1:{port}",
            "/etc/nginx/keeptrusts-token.conf": f"{folder}/token.conf",
            "/var/log/nginx": str(folder),
            "/run/nginx.pid": f"{folder}/pid",
            # Where a package's nginx puts them, only root may write.
            "http {\n": f"http {{\n    client_body_temp_path {folder}/bodies;\n    proxy_temp_path {folder}/proxy;\n"
            f"    fastcgi_temp_path {folder}/f;\n    uwsgi_temp_path {folder}/u;\n    scgi_temp_path {folder}/s;\n",
        },
        "envoy": {
            "127.0.0.1, port_value: 8000": f"127.0.0.1, port_value: {authorize}",
            "127.0.0.1, port_value: 9000": f"127.0.0.1, port_value: {application}",
            "0.0.0.0, port_value: 8080": f"127.0.0.1, port_value: {port}",
            "/var/log/envoy": str(folder),
        },
        "caddy": {
            "127.0.0.1:8000": f"127.0.0.1:{authorize}",
            "127.0.0.1:9000": f"127.0.0.1:{application}",
            "\n:8080 {": f"\n:{port} {{\n\tbind 127.0.0.1",
            "/var/log/caddy": str(folder),
        },
    }[name]
    for old, new in replaced.items():
        assert old in text, f"{FILES[name]} no longer has {old}"
        text = text.replace(old, new)
    configuration = folder / FILES[name]
    configuration.write_text(text)
    (folder / "token.conf").write_text(f'proxy_set_header X-Keeptrusts-Gateway-Token "{token}";\n')
    environment = clean_environment(KEEPTRUSTS_GATEWAY_TOKEN=token, HOME=str(folder))
    environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    command = [str(find_program(name)), *_options(name, configuration)]
    with running(command, environment, folder) as process:
        assert eventually(lambda: process.process.poll() is not None or _listens(port), 30)
        assert process.process.poll() is None, process.output
        yield Gateway(name, port, log, folder, process)


def _options(name: str, configuration: Path) -> list[str]:
    if name == "nginx":
        # As root it gives its workers another user, to whom a test's folder is closed.
        user = " user root;" if os.geteuid() == 0 else ""
        return ["-c", str(configuration), "-g", f"daemon off;{user}"]
    if name == "envoy":
        # Several at once on one machine; a log that is written when there is something to write.
        options = ["--disable-hot-restart", "--concurrency", "1", "--file-flush-interval-msec", "50"]
        return ["-c", str(configuration), *options, "--log-level", "warning"]
    return ["run", "--config", str(configuration), "--adapter", "caddyfile"]


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False

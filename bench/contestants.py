"""Who is measured beside whom: each a server with one worker, and the keys that it is asked with."""

from __future__ import annotations

import random
import secrets
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from access import tokens
from access.tokens import TokenKind
from bench.load import Slice, ask, program, serving
from keeptrusts.web import APPLICATION, web_command
from tests.processes import ROOT, Watched, clean_environment, running
from tests.servers import free_port

PATH: Final = "/gateway/v1/authorize"
BAD_SHARE: Final = 0.05
# nginx closes a connection after a thousand requests, which would measure wrk's new ones.
NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen 127.0.0.1:{port}; location / {{ return 200; }} }}
}}
"""


@dataclass(frozen=True)
class Contestant:
    """A running server and how it is asked. authorizations: the file with the headers that wrk chooses from."""

    name: str
    server: Watched
    url: str
    authorizations: Path
    token: str = ""

    def measure(self, seconds: int) -> Slice:
        return ask(self.url, self.authorizations, token=self.token, seconds=seconds)


def our_environment(folder: Path, database: str, redis_url: str) -> dict[str, str]:
    """Return the environment of our programs; without Redis nothing is held in memory either."""
    return clean_environment(
        DATABASE_URL=database,
        KEEPTRUSTS_SECRET_KEY=secrets.token_hex(32),
        KEEPTRUSTS_DATA_DIR=str(folder / "data"),
        **({"REDIS_URL": redis_url} if redis_url else {"KEEPTRUSTS_LEASE_SECONDS": "0"}),
    )


@contextmanager
def ours(folder: Path, database: str, redis_url: str, keys: int) -> Iterator[Contestant]:
    """Serve console, API and gateways, as `manage.py up` does, with a gateway and so many keys.

    Without Redis nothing is held in memory either: every request asks the database.
    """
    environment = our_environment(folder, database, redis_url)
    token, *values = printed("bench.population", keys, environment)
    good = [f"Bearer {value}" for value in values]
    authorizations = _with_bad(good, lambda: f"Bearer {tokens.generate(TokenKind.GATEWAY_KEY)}", folder / "ours")
    port = free_port()
    url = f"http://127.0.0.1:{port}{PATH}"
    celery = [sys.executable, "-m", "celery", "--quiet", "--app", "keeptrusts", "worker", "--pool", "threads"]
    celery += ["--concurrency", "2", "--loglevel", "WARNING", "--beat", "--schedule", str(folder / "beat")]
    with (
        serving(web_command("127.0.0.1", port, application=APPLICATION), environment, url) as server,
        # What the web process has counted of a flood is added up by the worker, beside it.
        running(celery, environment),
    ):
        yield Contestant("ours", server, url, authorizations, token)


@contextmanager
def nginx(folder: Path, authorizations: Path) -> Iterator[Contestant]:
    """Serve 200 to everybody."""
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    url = f"http://127.0.0.1:{port}{PATH}"
    command = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
    with serving(command, clean_environment(), url) as server:
        yield Contestant("nginx_return_200", server, url, authorizations)


@contextmanager
def bare_asgi(authorizations: Path) -> Iterator[Contestant]:
    """Serve 200 to everybody by the server that serves ours, with its options."""
    port = free_port()
    command = web_command("127.0.0.1", port, application="bench.rivals.nothing:application")
    url = f"http://127.0.0.1:{port}{PATH}"
    with serving(command, clean_environment(), url) as server:
        yield Contestant("bare_asgi", server, url, authorizations)


@contextmanager
def drf_api_key(folder: Path, database: str, keys: int) -> Iterator[tuple[Contestant, Contestant]]:
    """Serve djangorestframework-api-key by gunicorn, with so many keys in a database of its own.

    Twice: as it comes, with a connection to the database for each request, and with one that is kept.
    """
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE rival")
    environment = clean_environment(
        DATABASE_URL=database.rpartition("/")[0] + "/rival",
        DJANGO_SETTINGS_MODULE="bench.rivals.drf_api_key.settings",
    )
    good = [f"Api-Key {value}" for value in printed("bench.rivals.drf_api_key.population", keys, environment)]
    authorizations = _with_bad(good, _unknown_to_drf, folder / "drf_api_key")
    kept = {**environment, "RIVAL_KEEPS_CONNECTION": "yes"}
    with (
        _gunicorn("drf_api_key", authorizations, environment) as as_it_comes,
        _gunicorn("drf_api_key_kept_connection", authorizations, kept) as keeping,
    ):
        yield as_it_comes, keeping


@contextmanager
def _gunicorn(name: str, authorizations: Path, environment: Mapping[str, str]) -> Iterator[Contestant]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--worker-class", "sync", "--log-level", "warning", "django.core.wsgi:get_wsgi_application()"]
    url = f"http://127.0.0.1:{port}/authorize"
    with serving(command, environment, url) as server:
        yield Contestant(name, server, url, authorizations)


def printed(module: str, keys: int, environment: Mapping[str, str]) -> list[str]:
    """Return the lines that a module prints which makes keys."""
    command = [sys.executable, "-m", module, str(keys)]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(f"{module} failed:\n{made.stderr}")
    return made.stdout.split()


def _with_bad(good: Sequence[str], unknown: Callable[[], str], file: Path) -> Path:
    """Write the headers with so many bad ones that BAD_SHARE of all are: half of them unknown, half cut short."""
    bad = round(len(good) * BAD_SHARE / (1 - BAD_SHARE))
    headers = [*good, *(unknown() for _ in range(bad // 2)), *(header[:-1] for header in good[: bad - bad // 2])]
    random.shuffle(headers)
    file.write_text("".join(f"{header}\n" for header in headers))
    return file


def _unknown_to_drf() -> str:
    letters = string.ascii_letters + string.digits
    prefix, secret = ("".join(secrets.choice(letters) for _ in range(length)) for length in (8, 32))
    return f"Api-Key {prefix}.{secret}"

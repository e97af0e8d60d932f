"""Web, worker and beat under one supervisor."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from keeptrusts import broker, preparation
from keeptrusts.celery import app
from keeptrusts.folders import private_folder
from keeptrusts.supervisor import Program, run_together
from keeptrusts.web import web_command
from operations import pulse


class Command(BaseCommand):
    help = (
        "Run the console: web, worker and beat, until Ctrl-C or SIGTERM. Environment: HOST (127.0.0.1), PORT (8000), "
        "KEEPTRUSTS_WEB_WORKERS (1), KEEPTRUSTS_DATA_DIR (var/), DATABASE_URL and REDIS_URL."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--prepare",
            action="store_true",
            help="first apply migrations, collect static files and create the first Admin, where that is still due",
        )
        parser.add_argument("--demo", action="store_true", help="with --prepare: add demonstration data")

    def handle(self, *args: Any, prepare: bool, demo: bool, **options: Any) -> None:
        if demo and not prepare:
            raise CommandError("--demo goes with --prepare.")
        host, port = os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or 8000)
        if refusal := why_not_bindable(host, port):
            self.stderr.write(refusal)
            sys.exit(1)
        private_folder(settings.DATA_DIR)
        if prepare:
            try:
                preparation.prepare(self.say, demo=demo)
            except KeyboardInterrupt:
                self.stderr.write("Stopped before it was ready.")
                sys.exit(130)
        elif missing := preparation.what_is_missing():
            raise CommandError(missing)
        # A first look at the configuration creates the embedded broker's folders, before anyone needs them.
        app.conf.broker_transport_options  # noqa: B018
        status = run_together(
            programs(host, port),
            say=self.say,
            is_ready=lambda: answers(host, port),
            may_restart=lambda: broker.answers(settings.REDIS_URL),
            ready_message=f"Keeptrusts is ready: {settings.PUBLIC_URL}/admin/ (Ctrl-C stops it)",
        )
        if status:
            sys.exit(status)

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def programs(host: str, port: int) -> list[Program]:
    """Return the three programs of a console that listens at this address."""
    celery = [sys.executable, "-m", "celery", "--quiet", "--app", "keeptrusts"]
    return [
        _program("web", *web_command(host, port, workers=os.environ.get("KEEPTRUSTS_WEB_WORKERS") or "1")),
        _program(
            "worker",
            *(*celery, "worker", "--pool", "threads", "--concurrency", "2", "--loglevel", "INFO"),
            # Talk between workers, which a broker of files would have to keep and nobody here listens to.
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            watched=True,
        ),
        _program(
            "beat",
            *(*celery, "beat", "--pidfile", "", "--loglevel", "INFO"),
            *("--schedule", str(private_folder(settings.DATA_DIR / "beat") / "schedule")),
            watched=True,
        ),
    ]


def why_not_bindable(host: str, port: int) -> str | None:
    """Return what to tell the user if the address cannot be listened at, else None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As a server would: connections that the last one left in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                return f"Port {port} on {host} is taken by another program. Choose another one: PORT={port + 1}"
            return f"Cannot listen on port {port} of {host}: {error}. Choose others with HOST and PORT."
    return None


def answers(host: str, port: int) -> bool:
    """Tell whether a console serves at this address, with its database at hand and migrated."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)
    connection = http.client.HTTPConnection(everywhere.get(host, host), port, timeout=10)
    try:
        # Jobs may run later, and gateways do without Redis.
        connection.request("GET", "/readyz?exclude=beat,checkpoint,redis")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _program(name: str, *command: str, watched: bool = False) -> Program:
    # The children start elsewhere: a relative path has its meaning here.
    environment = {"KEEPTRUSTS_DATA_DIR": str(settings.DATA_DIR)}
    file = private_folder(settings.DATA_DIR / "pulse") / name if watched else None
    if file is not None:
        environment[pulse.VARIABLE] = str(file)
    return Program(
        name,
        command,
        environment=environment,
        folder=settings.BASE_DIR,
        pulse=file,
        stalled_after=pulse.STALLED_AFTER,
    )

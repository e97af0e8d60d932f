"""How the web process is served: one port for console, API and gateways."""

from __future__ import annotations

import sys
from pathlib import Path

APPLICATION = "keeptrusts.asgi:application"


def web_command(host: str, port: int, *, workers: str = "1", application: str = APPLICATION) -> list[str]:
    """Return the command that serves an ASGI application as `manage.py up` serves ours."""
    return [
        *(sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--http", "1", "--no-ws"),
        *("--host", host, "--port", str(port), "--workers", workers),
        # A request line and headers above 64 KiB are answered 431, headers that take longer than 10 s with silence.
        *("--http1-buffer-size", "65536", "--http1-header-read-timeout", "10000"),
        *("--log-config", str(Path(__file__).with_name("granian.json"))),
        # Below the supervisor's grace: a connection that stays open must not make a stop look like a failure.
        *("--workers-kill-timeout", "5", "--log-level", "warning", application),
    ]

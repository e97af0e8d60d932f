"""How many audit entries a second are exported over HTTP, beside plain COPY of the same columns in the same run.

A private PostgreSQL gets the entries; a server as `manage.py up` starts it sends them to one client over loopback, as
GET /api/v1/audit-entries/export.csv; and psycopg reads `COPY (SELECT the same columns) TO STDOUT (FORMAT csv)`. Rounds
of both alternate, and the ratio is the median of theirs. The memory is the resident one of the server's process, looked
at every 20 ms while it sends, beyond what it had after a small export; once more with a client that reads slowly. The
way that SQLite goes, where this process writes the cells, is measured beside it, on the same rows and without a server.
"""

from __future__ import annotations

import argparse
import http.client
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.load import say, serving
from keeptrusts.web import web_command
from tests.processes import clean_environment, descendants
from tests.servers import free_port, postgresql

PATH: Final = "/api/v1/audit-entries/export.csv"
READ: Final = 1_048_576
SAMPLE_SECONDS: Final = 0.02
# How much the slow client takes, and how long it then waits each time.
SLOW_READ: Final = 65_536
SLOW_PAUSE: Final = 0.01
SLOW_SECONDS: Final = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--entries", type=int, default=1_000_000, help="audit entries (1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="exports of each kind (3)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Load a private PostgreSQL, export, and return the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptrusts-bench-")))
        url = stack.enter_context(postgresql())
        key = _loaded(url, folder, options.entries)
        port = free_port()
        environment = clean_environment(
            **{name: os.environ[name] for name in ("DATABASE_URL", "KEEPTRUSTS_SECRET_KEY", "KEEPTRUSTS_DATA_DIR")},
            PORT=str(port),
        )
        command = web_command("127.0.0.1", port)
        server = stack.enter_context(serving(command, environment, f"http://127.0.0.1:{port}/admin/login/"))
        pids = [server.process.pid, *descendants(server.process.pid)]
        # What a first export loads is not what an export takes.
        _export(port, key, "?object_id=none")
        before, rounds, copies = _resident(pids), [], []
        grown = 0
        for number in range(options.rounds):
            with _watched(pids) as peak:
                rows, size, took = _export(port, key)
            if rows < options.entries:
                raise RuntimeError(f"only {rows:,} of {options.entries:,} rows arrived")
            grown = max(grown, peak[0] - before)
            copied, copy_took = _copy(url)
            rounds.append(rows / took)
            copies.append(copied / copy_took)
            say(f"round {number + 1}: {rounds[-1]:,.0f} rows/s, COPY {copies[-1]:,.0f}; {size / 1e6:,.0f} MB sent")
        with _watched(pids) as peak:
            slow_rows = _export_slowly(port, key)
        say(f"slowly: {slow_rows:,} rows in {SLOW_SECONDS} s")
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rounds, copies, strict=True))
        return {
            "rows_per_s": round(statistics.median(rounds)),
            "copy_rows_per_s": round(statistics.median(copies)),
            "ratio": round(ratio, 3),
            "written_here_rows_per_s": round(_written_here()),
            "peak_mb": round(grown / 1e6, 1),
            "slow_client_peak_mb": round((peak[0] - before) / 1e6, 1),
            "first_byte_ms": round(_first_byte(port, key) * 1_000, 1),
            "rows": options.entries,
        }


def _loaded(url: str, folder: Path, entries: int) -> str:
    """Fill the database, and return an Auditor's access key."""
    os.environ |= {
        "DATABASE_URL": url,
        "KEEPTRUSTS_SECRET_KEY": secrets.token_hex(32),
        "KEEPTRUSTS_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "keeptrusts.settings",
    }
    import django

    django.setup()
    from django.core.management import call_command

    from access.access_keys import create_access_key
    from access.members import create_member
    from access.rules import Role
    from audit.actor import Actor

    call_command("migrate", verbosity=0)
    bench = Actor.system("benchmark")
    auditor = create_member(actor=bench, username="auditor", role=Role.AUDITOR, password=secrets.token_hex())
    say(f"Writing {entries:,} audit entries…")
    with psycopg.connect(url, autocommit=True) as database:
        # As they are of a rotation: the facts of an entry are most of it.
        database.execute(
            """
            INSERT INTO audit_auditentry (at, action, actor_kind, actor_id, actor_label, credential, ip,
                                          object_type, object_id, object_label, before, after, detail)
            SELECT now() - interval '1 second' * (%(count)s - n), 'gateway_key.rotated', 'member', (n %% 40)::text,
                   'manager-' || n %% 40, 'access key ci (kt_ak_a1b2)', ('10.0.' || n %% 200 || '.7')::inet,
                   'gateway_key', gen_random_uuid()::text, 'prod-checkout-api-' || n %% 5000,
                   jsonb_build_object('version', n %% 7, 'expires_at', '2026-03-01T00:00:00+00:00'),
                   jsonb_build_object('version', n %% 7 + 1, 'expires_at', '2026-06-01T00:00:00+00:00'),
                   jsonb_build_object('grace_until', '2026-03-02T00:00:00+00:00', 'grace_seconds', 86400)
            FROM generate_series(1, %(count)s) AS n
            """,
            {"count": entries},
        )
        database.execute("VACUUM ANALYZE")
    return create_access_key(actor=bench, owner=auditor, name="bench", expires_at=None).value


def _asked(port: int, key: str, query: str = "") -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", PATH + query, headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.read()[:300]!r}")
    return connection, answer


def _export(port: int, key: str, query: str = "") -> tuple[int, int, float]:
    """Return the rows, the bytes and the seconds of one export; no cell here holds a line break."""
    began = time.perf_counter()
    connection, answer = _asked(port, key, query)
    lines = size = 0
    while part := answer.read(READ):
        lines += part.count(b"\n")
        size += len(part)
    took = time.perf_counter() - began
    connection.close()
    return lines - 1, size, took


def _export_slowly(port: int, key: str) -> int:
    """Read for SLOW_SECONDS, a little at a time, and hang up; return how many rows arrived."""
    connection, answer = _asked(port, key)
    ends, lines = time.monotonic() + SLOW_SECONDS, 0
    while time.monotonic() < ends and (part := answer.read(SLOW_READ)):
        lines += part.count(b"\n")
        time.sleep(SLOW_PAUSE)
    connection.close()
    return lines


def _first_byte(port: int, key: str) -> float:
    began = time.perf_counter()
    connection, answer = _asked(port, key)
    answer.read(1)
    took = time.perf_counter() - began
    connection.close()
    return took


def _copy(url: str) -> tuple[int, float]:
    """Return the rows that COPY gives of the same columns, in the same order, and the seconds it takes."""
    columns = "id, at, action, actor_kind, actor_id, actor_label, credential, ip, object_type, object_id, "
    statement = f"COPY (SELECT {columns} object_label, before, after, detail FROM audit_auditentry ORDER BY id DESC)"
    with psycopg.connect(url) as database, database.cursor() as cursor:
        began = time.perf_counter()
        rows = 0
        with cursor.copy(f"{statement} TO STDOUT (FORMAT csv, HEADER)") as copy:
            for _ in copy:
                rows += 1
        return rows - 1, time.perf_counter() - began


def _written_here() -> float:
    """Return how many rows a second the way without COPY gives, in this process and without a server."""
    from audit.csv_rows import written
    from audit.entry_export import ENTRIES
    from audit.models import AuditEntry

    rows = AuditEntry.objects.order_by("-id").values_list(*(column.expression for column in ENTRIES.columns))
    began = time.perf_counter()
    count = sum(held for _, held in written(rows, ENTRIES.columns))
    return count / (time.perf_counter() - began)


@contextmanager
def _watched(pids: list[int]) -> Iterator[list[int]]:
    """Give the most memory that the processes had together during the block."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            most[0] = max(most[0], _resident(pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def _resident(pids: list[int]) -> int:
    """Return the resident memory of the processes, bytes; what they share is counted for each."""
    total = 0
    for pid in pids:
        status: Any = Path(f"/proc/{pid}/statm").read_text().split()
        total += int(status[1]) * os.sysconf("SC_PAGE_SIZE")
    return total

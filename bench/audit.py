"""What the audit log's sealer costs those who change something, and how much it keeps up with.

1, 8 and 32 clients, each a process with a connection of its own, edit keys of their own by the lifecycle's verb as fast
as they can; slices with and without a sealer beside them (as beat runs it, every three seconds) alternate, and the cost
is the median of the slices' ratios. Then entries are written at a steady rate beside the sealer, and what waits is
counted; and a backlog is sealed. Afterwards the log must verify, with every entry in it.

PostgreSQL waits for the disk at every commit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench.load import say
from tests.processes import clean_environment
from tests.servers import postgresql

CLIENTS: Final = (1, 8, 32)
# As beat does it, and what it does then (audit.tasks.seal).
SEALER: Final = """
import time
import django
django.setup()
from audit import tasks
while True:
    tasks.seal()
    time.sleep(3)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--rounds", type=int, default=5, help="slices of each kind for each number of clients (5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long a slice is (4)")
    parser.add_argument("--rate", type=int, default=2_500, help="entries a second written beside the sealer (2500)")
    parser.add_argument("--steady", type=int, default=20, help="for so many seconds (20)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure; the run ends where the log does not verify afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptrusts-bench-")))
        url = stack.enter_context(postgresql(durable=True))
        environment = _set_up(url, folder)
        keys = _planted(max(CLIENTS))
        rows = [
            row
            for clients in CLIENTS
            if (row := _changes(clients, keys, environment, options.rounds, options.seconds)) is not None
        ]
        figures = {"rows": rows, **_steady(environment, options.rate, options.steady), **_backlog()}
        _check()
    return figures


def show(figures: Mapping[str, Any]) -> None:
    """Print the rows, then the rest."""
    print(f"{'clients':>8} {'changes/s':>12} {'without sealer':>15} {'cost':>8}")
    for row in figures["rows"]:
        cost = f"{row['cost']:.1%}"
        print(f"{row['clients']:>8} {row['changes_per_s']:>12,} {row['changes_per_s_without_sealer']:>15,} {cost:>8}")
    for name in ("written_per_s", "most_waiting", "waiting_at_the_end", "sealed_per_s"):
        print(f"{name:>28}  {figures[name]:,}")


def _set_up(url: str, folder: Path) -> dict[str, str]:
    environment = {
        "DATABASE_URL": url,
        "KEEPTRUSTS_SECRET_KEY": secrets.token_hex(32),
        "KEEPTRUSTS_DATA_DIR": str(folder),
        "KEEPTRUSTS_LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "keeptrusts.settings",
    }
    os.environ |= environment
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    return clean_environment(**environment)


def _planted(count: int) -> list[UUID]:
    from audit.sealing import seal
    from tests.factories import make_key

    keys = [make_key().key.id for _ in range(count)]
    seal()
    return keys


def _changes(
    clients: int, keys: list[UUID], environment: dict[str, str], rounds: int, seconds: float
) -> dict[str, object]:
    ratios, beside, alone = [], [], []
    for round_ in range(-1, rounds):
        without = _slice(clients, keys, seconds)
        with _sealer(environment):
            with_sealer = _slice(clients, keys, seconds)
        if round_ < 0:
            continue  # everything is warm now
        alone.append(without)
        beside.append(with_sealer)
        ratios.append(with_sealer / without)
        say(f"{clients} clients, round {round_ + 1}: {with_sealer:,.0f} changes/s, {without:,.0f} without the sealer")
    return {
        "clients": clients,
        "changes_per_s": round(statistics.median(beside)),
        "changes_per_s_without_sealer": round(statistics.median(alone)),
        "cost": round(1 - statistics.median(ratios), 3),
    }


def _slice(clients: int, keys: list[UUID], seconds: float) -> float:
    """Let so many clients change their keys; return changes a second."""
    from django.db import connection

    # Forked, because 32 of them that begin from nothing would take a minute; none may share a connection with us.
    context = multiprocessing.get_context("fork")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL has one
    start, total = context.Barrier(clients + 1), context.Value("q", 0)
    processes = [
        context.Process(target=_client, args=(key, seconds, start, total), daemon=True) for key in keys[:clients]
    ]
    for process in processes:
        process.start()
    start.wait(120)
    for process in processes:
        process.join(seconds + 60)
    if any(process.exitcode != 0 for process in processes):
        sys.exit("A client failed: there is nothing to be measured.")
    return float(total.value / seconds)


def _client(key: UUID, seconds: float, start: Any, total: Any) -> None:
    from django.db import connection

    from keys import lifecycle
    from tests.factories import TESTS

    lifecycle.edit(actor=TESTS, key_id=key, changed={"description": secrets.token_hex(4)})
    start.wait(120)
    ends, done = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        lifecycle.edit(actor=TESTS, key_id=key, changed={"description": secrets.token_hex(4)})
        done += 1
    with total.get_lock():
        total.value += done
    connection.close()


@contextmanager
def _sealer(environment: dict[str, str]) -> Iterator[None]:
    """Run a sealer for the block, which begins when it has sealed once."""
    from audit.models import UnsealedEntry

    with subprocess.Popen([sys.executable, "-c", SEALER], env=environment) as process:
        try:
            ends = time.monotonic() + 60
            while UnsealedEntry.objects.exists() and time.monotonic() < ends:
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _steady(environment: dict[str, str], rate: int, seconds: int) -> dict[str, object]:
    """Write entries at a steady rate beside a sealer, and look how many wait."""
    from audit.models import UnsealedEntry
    from audit.sealing import seal

    with _sealer(environment):
        started, written, most = time.monotonic(), 0, 0
        while (passed := time.monotonic() - started) < seconds:
            due = int(passed * rate) - written
            if due > 0:
                _write(min(due, 500))
                written += min(due, 500)
                most = max(most, UnsealedEntry.objects.count())
            else:
                time.sleep(0.01)
        took = time.monotonic() - started
    waiting = UnsealedEntry.objects.count()
    seal()
    return {"written_per_s": round(written / took), "most_waiting": most, "waiting_at_the_end": waiting}


def _backlog() -> dict[str, object]:
    from audit.sealing import seal

    for _ in range(40):
        _write(500)
    started = time.monotonic()
    sealed = seal()
    return {"sealed_per_s": round(sealed / (time.monotonic() - started))}


def _write(count: int) -> None:
    """Write entries as `record` does, many in one transaction."""
    from audit import clock
    from audit.actions import AuditAction
    from audit.models import AuditEntry

    AuditEntry.objects.bulk_create(
        AuditEntry(
            at=clock.now(),
            action=AuditAction.KEY_EDITED,
            actor_kind="system",
            actor_label="bench",
            object_type="gateway_key",
            object_id=secrets.token_hex(8),
            object_label="bench",
            before={"description": "before"},
            after={"description": secrets.token_hex(8)},
        )
        for _ in range(count)
    )


def _check() -> None:
    from audit.models import AuditEntry
    from audit.verification import verify

    verdict = verify()
    if not verdict.valid or verdict.pending or verdict.sealed != AuditEntry.objects.count():
        sys.exit(f"The log does not verify: {verdict}")

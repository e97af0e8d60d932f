"""The rows of the fault table: `script/test --faults [ROW]`. Each is a module of this package, test_ROW.py."""

from __future__ import annotations

from typing import Final

SQLITE, POSTGRESQL = "sqlite", "postgresql"

# What each does, and in which homes.
ROWS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "kill": ("kill -9 of web and worker in the middle of changes", (POSTGRESQL,)),
    "races": ("verbs of many clients on one key", (POSTGRESQL,)),
    "tampering": ("a sealed audit log is altered", (SQLITE, POSTGRESQL)),
    "restarts": ("Redis and PostgreSQL restart, or stand still", (POSTGRESQL,)),
    "sweeps": ("kill -9 of workers during sweeps, beside two beats", (POSTGRESQL,)),
    "clocks": ("the clock of a web host is an hour wrong", (POSTGRESQL,)),
    "canaries": ("secrets in all wrong places", (SQLITE, POSTGRESQL)),
    "disk": ("the disk is full, the database is read-only", (SQLITE, POSTGRESQL)),
}


def homes_of(row: str) -> tuple[str, ...]:
    return ROWS[row][1]


def explanation() -> str:
    """Return the rows with what they do, for a help text."""
    return "\n".join(f"    {row:<12}{what}" for row, (what, _) in ROWS.items())

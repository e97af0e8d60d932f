"""deploy/postgresql/harden.sql: a database role that writes and reads the audit log and can do no more."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.processes import ROOT, clean_environment
from tests.programs import postgresql_folder

pytestmark = pytest.mark.postgresql

SCRIPT: Final = ROOT / "deploy" / "postgresql" / "harden.sql"
# A day of a console, each step as the process that does it: keys, the sealer, the usage of a gateway, its partitions.
DAY: Final = """
import django
django.setup()
from datetime import timedelta
from django.db import transaction
from audit.sealing import seal
from audit.verification import verify
from audit.models import AuditEntry
from keys import lifecycle
from tests.factories import TESTS, make_gateway, make_group, make_key, make_member
from usage import tasks
make_member("admin"); make_gateway()
key = make_key(consumer_group=make_group()).key
lifecycle.rotate(actor=TESTS, key_id=key.id)
lifecycle.revoke(actor=TESTS, key_id=key.id, reason="over")
assert seal() == AuditEntry.objects.count() > 0
for task in (tasks.tend_events, tasks.roll_up, tasks.compact_buckets, tasks.recount):
    task()
verdict = verify()
assert verdict.valid and verdict.sealed and not verdict.pending, verdict
"""


def url_of(user: str, password: str, database: str) -> str:
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit((parts.scheme, f"{user}:{password}@{parts.hostname}:{parts.port}", f"/{database}", "", ""))


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the environment of a console in a database of its own, migrated by an owner and hardened."""
    name, password = f"hardened_{secrets.token_hex(4)}", secrets.token_hex(16)
    owner, app = f"{name}_owner", f"{name}_app"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        for role in (owner, app):
            server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        server.execute(f"GRANT {app} TO {owner}".encode())
        server.execute(f"CREATE DATABASE {name} OWNER {owner}".encode())
    with psycopg.connect(url_of(owner, password, name), autocommit=True) as mine:
        mine.execute("CREATE SCHEMA IF NOT EXISTS public")
    folder = tmp_path_factory.mktemp("hardened")
    environment = clean_environment(
        DATABASE_URL=url_of(owner, password, name),
        KEEPTRUSTS_SECRET_KEY=secrets.token_hex(32),
        KEEPTRUSTS_DATA_DIR=str(folder),
        DJANGO_SETTINGS_MODULE="keeptrusts.settings",
    )
    try:
        run([sys.executable, "manage.py", "migrate", "-v0"], environment)
        binaries = postgresql_folder()
        assert binaries is not None
        psql = [str(binaries / "psql"), environment["DATABASE_URL"], "-q", "-v", f"app={app}", "-f", str(SCRIPT)]
        run(psql, environment)
        run(psql, environment)  # it can be run again
        yield environment | {"DATABASE_URL": url_of(app, password, name), "OWNER": environment["DATABASE_URL"]}
    finally:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            server.execute(f"DROP ROLE {owner}".encode())
            server.execute(f"DROP ROLE {app}".encode())


def run(command: list[str], environment: dict[str, str], cwd: Path = ROOT) -> None:
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_console_does_its_work_with_that_role(hardened: dict[str, str]) -> None:
    run([sys.executable, "-c", DAY], hardened)


@pytest.mark.parametrize("table", ["audit_auditentry", "audit_auditleaf", "audit_checkpoint"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "UPDATE {table} SET {column} = {column}",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "DROP TRIGGER {table}_no_delete ON {table}",
        "DROP TABLE {table} CASCADE",
        "ALTER TABLE {table} OWNER TO CURRENT_USER",
        "GRANT ALL ON {table} TO CURRENT_USER",
        "CREATE RULE r AS ON DELETE TO {table} DO INSTEAD NOTHING",
    ],
)
def test_that_role_cannot_touch_evidence(hardened: dict[str, str], table: str, statement: str) -> None:
    column = {"audit_auditleaf": "hash", "audit_checkpoint": "note"}.get(table, "actor_label")
    with psycopg.connect(hardened["DATABASE_URL"]) as connection:
        before = privileges(connection, table)
        try:
            connection.execute(statement.format(table=table, column=column).encode())
        except psycopg.errors.InsufficientPrivilege:
            return
        # A grant of what one has not is a warning, and gives nothing.
        assert statement.startswith("GRANT")
        assert privileges(connection, table) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP FUNCTION audit_queue_entry CASCADE",
        "DELETE FROM django_migrations",
    ],
)
def test_that_role_cannot_work_around_it(hardened: dict[str, str], statement: str) -> None:
    with (
        psycopg.connect(hardened["DATABASE_URL"]) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def privileges(connection: psycopg.Connection, table: str) -> list[tuple[str, bool]]:
    names = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    rows = [connection.execute("SELECT has_table_privilege(%s, %s)", [table, name]).fetchone() for name in names]
    said = [(name, bool(row and row[0])) for name, row in zip(names, rows, strict=True)]
    assert said == [("SELECT", True), ("INSERT", True), ("UPDATE", False), ("DELETE", False), ("TRUNCATE", False)]
    return said

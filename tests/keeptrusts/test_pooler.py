"""Behind a real PgBouncer in transaction mode, configured no further than it must be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.processes import clean_environment, eventually, manage
from tests.programs import find_program
from tests.servers import free_port, postgresql

pytestmark = [pytest.mark.needs("postgresql", "pgbouncer"), pytest.mark.once]

# So few server processes that what is left open between two transactions meets another one.
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server.port} user={server.username} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
"""


@pytest.fixture
def pooler(tmp_path: Path) -> Iterator[str]:
    """The DATABASE_URL of a PgBouncer before a PostgreSQL of its own."""
    program = find_program("pgbouncer")
    with postgresql() as url:
        server, port = urlsplit(url), free_port()
        configuration = tmp_path / "pgbouncer.ini"
        configuration.write_text(CONFIGURATION.format(server=server, port=port))
        # It refuses to run as root, and whom it becomes must find its file.
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        become = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = [str(program), *become, str(configuration)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        through = f"postgresql://{server.username}:{server.password}@127.0.0.1:{port}/postgres"
        try:
            eventually(lambda: _answers(through))
            yield through
        finally:
            process.terminate()
            process.wait(timeout=15)


def test_the_console_is_set_up_filled_and_verified_through_a_pooler(pooler: str, tmp_path: Path) -> None:
    environment = clean_environment(
        DATABASE_URL=pooler,
        KEEPTRUSTS_DATABASE_POOLER="true",
        KEEPTRUSTS_DATA_DIR=str(tmp_path / "data"),
        KEEPTRUSTS_SECRET_KEY="a secret of a test " * 4,
    )
    manage(environment, "migrate", "-v0")
    manage(environment, "create_member", "ada", "--role", "admin", stdin="a long password of nobody\n")
    # Reads whole tables, which without the setting is done by cursors that a pooler loses.
    assert "untouched" in manage(environment, "verify_audit")


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True

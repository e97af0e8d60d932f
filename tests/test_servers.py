from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.processes import clean_environment, descendants, eventually, is_alive, running
from tests.servers import killable_postgresql, postgresql, redis

pytestmark = [pytest.mark.once, pytest.mark.needs("postgresql", "redis")]

WITH_SERVERS = [sys.executable, "-m", "tests.servers", "--"]
SAY_URLS = "import os; print(os.environ['DATABASE_URL'], os.environ['REDIS_URL'], flush=True)"


def test_they_answer_within_the_block_and_not_after_it() -> None:
    with postgresql() as database_url, redis() as redis_url:
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with Redis.from_url(redis_url) as client:
            assert client.ping()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database_url)
    with Redis.from_url(redis_url) as client, pytest.raises(RedisConnectionError):
        client.ping()


def test_nobody_comes_in_without_the_password() -> None:
    with postgresql() as url, pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(re.sub(":[0-9a-f]{32}@", ":wrong@", url))


def test_a_killed_database_comes_back_with_what_it_had_promised() -> None:
    with killable_postgresql(durable=True) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE promised AS SELECT 7 AS kept")
            server.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        server.restart()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT kept FROM promised").fetchone() == (7,)


def test_a_command_gets_their_addresses_and_its_exit_status_is_passed_on() -> None:
    command = [*WITH_SERVERS, sys.executable, "-c", f"{SAY_URLS}; raise SystemExit(7)"]
    with running(command, clean_environment()) as run:
        assert run.ends(60) == 7
        assert re.search(r"^postgresql://\S+@127.0.0.1:\d+/\S+ redis://127.0.0.1:\d+/0$", run.output, re.MULTILINE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_they_end_with_whoever_started_them(number: signal.Signals) -> None:
    waiting = [*WITH_SERVERS, sys.executable, "-c", f"{SAY_URLS}; import time; time.sleep(1000)"]
    with running(waiting, clean_environment()) as run:
        run.says("redis://")
        everyone = descendants(run.process.pid)
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in everyone}
        assert {"postgres", "redis-server"} <= names
        servers = [pid for pid in everyone if "python" not in Path(f"/proc/{pid}/comm").read_text()]
        # A terminal's Ctrl-C goes to the whole group; the others to the one that started them.
        (os.killpg if number == signal.SIGINT else os.kill)(run.process.pid, number)
        assert eventually(lambda: not [pid for pid in servers if is_alive(pid)])
        pid = run.process.pid
    # Whom SIGKILL kept from tidying up, the next one tidies up after.
    with redis():
        assert not list(Path("/tmp").glob(f"keeptrusts-*-{pid}-*"))  # noqa: S108 (only looked at)

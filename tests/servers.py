"""Private PostgreSQL and Redis servers: on free ports of loopback, in temporary folders, gone afterwards.

    with postgresql() as database_url, redis() as redis_url: ...
    python -m tests.servers -- COMMAND…     COMMAND with DATABASE_URL and REDIS_URL of such servers

They also end when whoever started them is killed (Linux).
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from keeptrusts.supervisor import die_with_parent
from tests.processes import descendants, eventually, is_alive
from tests.programs import PROGRAMS, find_program, postgresql_folder

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
USER = "keeptrusts"


class ServerError(RuntimeError):
    """A server could not be started; its last words are in the message."""


@contextmanager
def postgresql(*, durable: bool = False) -> Iterator[str]:
    """Run a PostgreSQL of our own for the block and give its DATABASE_URL. Nothing of it survives the block.

    durable: it waits for the disk at every commit, as in production; for measurements.
    """
    with killable_postgresql(durable=durable) as server:
        yield server.url


@contextmanager
def killable_postgresql(*, durable: bool = False) -> Iterator[KillableServer]:
    """The same, for those who want it to die in between."""
    binaries = postgresql_folder()
    if binaries is None:
        raise ServerError(f"PostgreSQL is not installed: {PROGRAMS['postgresql'].how_to_install}")
    account = _unprivileged_account()
    with _folder("pg", account) as folder:
        password = secrets.token_hex(16)
        secret = folder / "password"
        secret.write_text(password)
        if account:
            os.chown(secret, account.pw_uid, account.pw_gid)
        data = folder / "data"
        initdb = [str(binaries / "initdb"), "--pgdata", str(data), "--username", USER, "--pwfile", str(secret)]
        initdb += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        made = subprocess.run(initdb, cwd=folder, capture_output=True, text=True, check=False, **_as_account(account))
        if made.returncode:
            raise ServerError(f"initdb failed:\n{made.stdout}{made.stderr}")

        def command(port: int) -> list[str]:
            options = {
                "listen_addresses": "127.0.0.1",
                "port": port,
                "unix_socket_directories": folder,
                "max_connections": 200,
                "shared_buffers": "128MB",
                "max_wal_size": "2GB",
                "timezone": "UTC",
            }
            if not durable:
                options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            return [str(binaries / "postgres"), "-D", str(data)] + [f"--{k}={v}" for k, v in options.items()]

        def url(port: int) -> str:
            return f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"

        def is_up(port: int) -> bool:
            try:
                psycopg.connect(url(port), connect_timeout=2).close()
            except psycopg.OperationalError:
                return False
            return True

        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        with _running(command, folder, is_up, account=account, stop_signal=signal.SIGINT) as server:
            server.url = url(server.port)
            yield server


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis of our own for the block and give its REDIS_URL. It keeps nothing on disk."""
    with killable_redis() as server:
        yield server.url


@contextmanager
def killable_redis() -> Iterator[KillableServer]:
    """The same, for those who want it to die in between."""
    binary = find_program("redis")
    if binary is None:
        raise ServerError(f"Redis is not installed: {PROGRAMS['redis'].how_to_install}")
    with _folder("redis", None) as folder:

        def command(port: int) -> list[str]:
            options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
            return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]

        def is_up(port: int) -> bool:
            try:
                with closing(Redis(port=port, socket_connect_timeout=2)) as client:
                    return bool(client.ping())
            except RedisError:
                return False

        with _running(command, folder, is_up) as server:
            server.url = f"redis://127.0.0.1:{server.port}/0"
            yield server


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens at right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KillableServer:
    """A server that runs, and can be killed and started again where it was."""

    def __init__(self, port: int, start: Callable[[], subprocess.Popen[bytes]], is_up: Callable[[], bool]) -> None:
        self.port = port
        self.url = ""
        self.process = start()
        self.is_up = is_up
        self._start = start

    def kill(self) -> None:
        """Kill it and all that it has started by SIGKILL: nothing is written any more, nobody is told."""
        processes = [self.process.pid, *descendants(self.process.pid)]
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        # A server that is started beside what is left of the old one would refuse to run.
        eventually(lambda: not any(is_alive(pid) for pid in processes), STOP_TIMEOUT)

    def restart(self) -> None:
        """Start it again on the same port; returns when it answers. Errors: ServerError."""
        self.process = self._start()
        if not _comes_up(self.process, self.is_up):
            raise ServerError("The server did not come back.")


@contextmanager
def _running(
    command: Callable[[int], Sequence[str]],
    folder: Path,
    is_up: Callable[[int], bool],
    *,
    account: pwd.struct_passwd | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[KillableServer]:
    """Run the server for the block."""
    log = folder / "log"

    def start(port: int) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return _start(command(port), folder, output, account, stop_signal)

    for _ in range(3):  # between our look at a port and the server's, somebody else may take it
        port = free_port()
        server = KillableServer(port, partial(start, port), partial(is_up, port))
        try:
            if _comes_up(server.process, server.is_up):
                yield server
                return
        finally:
            _stop(server.process, stop_signal)
    raise ServerError(f"{command(0)[0]} did not start:\n{log.read_text()[-3000:]}")


def _start(
    command: Sequence[str],
    folder: Path,
    output: Any,
    account: pwd.struct_passwd | None,
    stop_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C is for us; we stop the server when we are done with it
        preexec_fn=lambda: die_with_parent(parent, stop_signal),
        **_as_account(account),
    )


def _comes_up(server: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        if is_up():
            return True
        time.sleep(0.05)
    return False


def _stop(server: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    server.send_signal(stop_signal)
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@contextmanager
def _folder(kind: str, account: pwd.struct_passwd | None) -> Iterator[Path]:
    # A Unix socket's path may have some hundred characters: /tmp is short where TMPDIR may not be.
    short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 (mkdtemp makes the name)
    _remove_orphans(Path(short or tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"keeptrusts-{kind}-{os.getpid()}-", dir=short))
    try:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphans(parent: Path) -> None:
    """Remove the folders of those who were killed: their servers are gone, their files are not."""
    for folder in parent.glob("keeptrusts-*-*-*"):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Return who PostgreSQL shall run as where we are root, which it refuses; else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody.")


def _as_account(account: pwd.struct_passwd | None) -> dict[str, Any]:
    # Nothing of the caller's PG* variables may reach a private server.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    if account is None:
        return {"env": environment}
    return {"env": environment, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def main() -> int:
    """Run a command with DATABASE_URL and REDIS_URL of private servers; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=main.__doc__)
    parser.add_argument("command", nargs="+", help="what to run, after --")
    command = parser.parse_args().command
    # The default action of SIGTERM would skip every `finally`.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        urls = {"DATABASE_URL": stack.enter_context(postgresql()), "REDIS_URL": stack.enter_context(redis())}
        parent = os.getpid()
        process = subprocess.Popen(command, env={**os.environ, **urls}, preexec_fn=lambda: die_with_parent(parent))
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal gave the command its Ctrl-C too
            return process.wait(STOP_TIMEOUT)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

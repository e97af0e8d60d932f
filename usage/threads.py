"""Threads that ask the database for an event loop, each with a connection of its own.

Their connections stand outside the console's pool, so that a busy console never keeps a gateway waiting for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper


class DatabaseThreads:
    """A fixed number of threads; what runs in them uses `django.db.connection` as everywhere."""

    def __init__(self, count: int, name: str) -> None:
        self._connections: list[BaseDatabaseWrapper] = []
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=self._own_connection)

    async def run[T](self, do: Callable[[], T]) -> T:
        """Return what `do` returns in one of the threads. Cancelled while it still waits for one, it never starts."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, do)

    def close(self) -> None:
        """Wait for what runs and close the connections. Not on an event loop."""
        self._executor.shutdown(cancel_futures=True)
        while self._connections:
            self._connections.pop().close()

    def _own_connection(self) -> None:
        wrapper: Any = connections.create_connection(DEFAULT_DB_ALIAS)
        options = {name: value for name, value in wrapper.settings_dict["OPTIONS"].items() if name != "pool"}
        wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": options, "CONN_MAX_AGE": None}
        wrapper.inc_thread_sharing()  # whoever closes it is another thread
        connections[DEFAULT_DB_ALIAS] = wrapper
        self._connections.append(wrapper)


def surviving_restart[T](do: Callable[[], T]) -> T:
    """Return what `do` returns, trying a second time on a new connection where the first one is lost.

    Only for what may be done twice, because what a lost connection has done is not known: reads, and writes that find
    out by themselves. Errors: what the second try raises.
    """
    try:
        return do()
    except (OperationalError, InterfaceError):
        drop_broken_connection()
    try:
        return do()
    except DatabaseError:
        drop_broken_connection()
        raise


def drop_broken_connection() -> None:
    """Let the next use of this thread's connection open a new one, if this one may be broken."""
    if not connection.in_atomic_block:
        connection.close()

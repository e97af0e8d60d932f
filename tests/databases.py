"""A database for a console that a test runs in processes of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.db import connection


@contextmanager
def own_database() -> Iterator[dict[str, str]]:
    """Give the environment of a console with a new database in this home: SQLite's lies in its data directory."""
    if connection.vendor == "sqlite":
        yield {}
        return
    address = urlsplit(os.environ["DATABASE_URL"])
    name = f"console_{secrets.token_hex(4)}"
    with psycopg.connect(urlunsplit(address), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield {
                "DATABASE_URL": urlunsplit(address._replace(path=f"/{name}")),
                "REDIS_URL": os.environ["REDIS_URL"],
                "KEEPTRUSTS_SECRET_KEY": secrets.token_urlsafe(50),
            }
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")

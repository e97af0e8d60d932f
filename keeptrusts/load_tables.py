"""Rows by the hundred thousand into one table: COPY on PostgreSQL, INSERT elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import batched
from typing import Any, Final

from django.core.management.color import no_style
from django.db import connection
from django.db.models import Model

from usage.raw import to_database

BATCH: Final = 5_000
# What COPY's text format escapes.
ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def fill(model: type[Model], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the rows, in the caller's transaction. Lists and dicts become JSON."""
    table, names = model._meta.db_table, ", ".join(columns)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for some in batched(rows, BATCH):
                    copy.write("".join("\t".join(map(_text, row)) + "\n" for row in some))
            return
        places = ", ".join(["%s"] * len(columns))
        insert = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608  # names of ours alone
        for some in batched(rows, BATCH):
            cursor.executemany(insert, [[_parameter(value) for value in row] for row in some])


def go_on_counting(*models: type[Model]) -> None:
    """Let the databases' own numbers of these tables follow those that were given here."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(models)):
            cursor.execute(statement)


def trust_references() -> None:
    """Until the transaction ends, let PostgreSQL not look up every reference, where we may say so.

    With five references a row that would take longer than everything else.
    """
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone()[0]:
            cursor.execute("SET LOCAL session_replication_role = replica")


def tell_the_planner() -> None:
    """Let the database look at what is in the tables now; outside a transaction, tidy them, too."""
    with connection.cursor() as cursor:
        tidies = connection.vendor == "postgresql" and not connection.in_atomic_block
        cursor.execute("VACUUM ANALYZE" if tidies else "ANALYZE")


def _text(value: object) -> str:
    match value:
        case None:
            return r"\N"
        case str():
            return value.translate(ESCAPES)
        case bytes():
            return f"\\\\x{value.hex()}"
        case list() | dict():
            return json.dumps(value).translate(ESCAPES)
        case timedelta():
            return f"{value.total_seconds()} seconds"
        case _:
            return str(value)


def _parameter(value: object) -> Any:
    match value:
        case list() | dict():
            return json.dumps(value)
        case timedelta():
            return value // timedelta(microseconds=1)
        case _:
            return to_database(value)

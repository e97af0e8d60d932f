"""The rows of a query as blocks of CSV, in constant memory and of one moment.

PostgreSQL writes the cells itself: `COPY (…) TO STDOUT` of one statement, so of one snapshot, and here only the ends of
its lines are changed. SQLite reads on in one statement, too, and the cells are written here, byte for byte the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from contextlib import closing
from itertools import batched
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import QuerySet

from audit.csv_cells import Column, in_sql, writers

# So much is sent at once, bytes; every block costs a change of threads.
BLOCK: Final = 262_144
# Rows that are read, and written, at once here.
ROWS_AT_ONCE: Final = 500
END: Final = b"\r\n"

type Block = tuple[bytes, int]


def csv_blocks(rows: QuerySet[Any], columns: tuple[Column, ...], *, seconds: int) -> Generator[Block]:
    """Yield CSV of `rows`, its header first, and with each block how many rows it holds.

    seconds: how long PostgreSQL may take, the waiting for who reads included; then OperationalError. The query begins
    with the second block. Whoever does not read to the end closes the generator, which ends the query.
    """
    yield ",".join(column.name for column in columns).encode() + END, 0
    # Names that no annotation of the query can have, so that a column may be called like one.
    selected = rows.values_list(*(column.expression for column in columns))
    blocks = _copied(selected, columns, seconds) if connection.vendor == "postgresql" else written(selected, columns)
    with closing(blocks):
        yield from blocks


def written(selected: QuerySet[Any, tuple[Any, ...]], columns: tuple[Column, ...]) -> Generator[Block]:
    """Yield the blocks of `selected`, whose cells are written here; on any database."""
    write = writers(columns)
    lines = io.StringIO(newline="")
    writer, held = csv.writer(lines), 0
    for some in batched(selected.iterator(ROWS_AT_ONCE), ROWS_AT_ONCE):
        writer.writerows(
            [None if cell is None else to_text(cell) for to_text, cell in zip(write, row, strict=True)] for row in some
        )
        held += len(some)
        if lines.tell() >= BLOCK:
            yield lines.getvalue().encode(), held
            lines.seek(0)
            lines.truncate()
            held = 0
    if held:
        yield lines.getvalue().encode(), held


def _copied(selected: QuerySet[Any, tuple[Any, ...]], columns: tuple[Column, ...], seconds: int) -> Generator[Block]:
    try:
        statement = _copy_statement(selected, columns)
    except EmptyResultSet:
        return
    # What the driver says while it is read becomes Django's errors, as what it says to a query does.
    with transaction.atomic(), connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.execute(f"SET LOCAL statement_timeout = {seconds * 1_000}")
        parts: list[bytes] = []
        size = 0
        with cursor.copy(statement) as copy:
            for line in copy:
                # A row comes at a time, and ends as no cell does: with a line feed that is not in quotes.
                parts.append(line[:-1])
                size += len(line)
                if size >= BLOCK:
                    yield END.join(parts) + END, len(parts)
                    parts, size = [], 0
        if parts:
            yield END.join(parts) + END, len(parts)


def _copy_statement(selected: QuerySet[Any, tuple[Any, ...]], columns: tuple[Column, ...]) -> str:
    sql, parameters = selected.query.sql_with_params()
    names = [f"c{number}" for number in range(len(columns))]
    cells = ", ".join(in_sql(column, name) for column, name in zip(columns, names, strict=True))
    # COPY takes no parameters of its own: they are written into it, by the driver.
    operations: Any = connection.ops
    inner = operations.compose_sql(sql, parameters)
    query = f"SELECT {cells} FROM ({inner}) AS chosen ({', '.join(names)})"  # noqa: S608  # made by Django, and by us
    return f"COPY ({query}) TO STDOUT (FORMAT csv)"

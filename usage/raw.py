"""Values on their way into hand-written SQL and back, the same for both databases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import batched
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Model

# Rows in one statement. SQLite takes at most 32,766 parameters.
ROWS_A_STATEMENT: Final = 1_000


def to_database(value: object) -> Any:
    """Return a parameter as the current database's driver wants it."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, UUID):
        return value if connection.features.has_native_uuid_field else value.hex
    if isinstance(value, Decimal):
        # With SQLite a decimal is a number in text; PostgreSQL takes it as it is.
        return value if connection.vendor == "postgresql" else format(value, "f")
    return value


def instant(value: datetime | str | None) -> datetime | None:
    """Return a column of time as an aware datetime in UTC: SQLite gives it without a zone, or as text."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def identity(value: UUID | str) -> UUID:
    """Return a UUID column, which SQLite gives as text."""
    return value if isinstance(value, UUID) else UUID(value)


def insert(
    model: type[Model], columns: tuple[str, ...], rows: Iterable[Sequence[object]], then: str
) -> list[tuple[Any, ...]]:
    """Insert the rows in the order given and return what `then` returns of them.

    then: what follows the rows, in SQL: what happens on a conflict, and what is returned.
    """
    source = _arrays if connection.vendor == "postgresql" else _values
    returned: list[tuple[Any, ...]] = []
    for some in batched(rows, ROWS_A_STATEMENT):
        sql, parameters = source(model, columns, some)
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) {sql} {then}", parameters)
            if cursor.description is not None:
                returned += cursor.fetchall()
    return returned


def _values(model: type[Model], columns: tuple[str, ...], rows: Sequence[Sequence[object]]) -> tuple[str, list[Any]]:
    """The rows as SQLite reads them: one by one."""
    row = "(" + ", ".join(["%s"] * len(columns)) + ")"
    return f"VALUES {', '.join([row] * len(rows))}", [to_database(value) for row in rows for value in row]


def _arrays(model: type[Model], columns: tuple[str, ...], rows: Sequence[Sequence[object]]) -> tuple[str, list[Any]]:
    """The rows as PostgreSQL reads them fastest in a statement: an array for each column.

    psycopg needs five times as long for a parameter for each value.
    """
    types = _types(model, columns)
    arrays = ", ".join(f"%s::{type_}[]" for type_ in types)
    values = [_array(type_, column) for type_, column in zip(types, zip(*rows, strict=True), strict=True)]
    return f"SELECT * FROM unnest({arrays})", values  # noqa: S608  # types of ours alone


def _array(type_: str, column: Sequence[object]) -> Any:
    """One column as a parameter. Whole numbers are most of what sums are made of, and as text they cost a tenth."""
    if type_ in {"bigint", "integer", "smallint"}:
        return "{" + ",".join(["NULL" if value is None else str(value) for value in column]) + "}"
    return [to_database(value) for value in column]


@cache
def _types(model: type[Model], columns: tuple[str, ...]) -> tuple[str, ...]:
    """The database's type of each column, without its length, to which a cast would cut what is too long."""
    types = {field.column: field.db_type(connection) or "" for field in model._meta.concrete_fields}
    return tuple(types[column].partition("(")[0] for column in columns)

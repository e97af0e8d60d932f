"""Values on their way into hand-written SQL and back, the same for both databases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db import connection

# Rows in one statement. SQLite takes at most 32,766 parameters, and psycopg needs longer for each the more there are.
ROWS_A_STATEMENT: Final = 200


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


def values_clause(rows: Iterable[Sequence[object]]) -> tuple[str, list[Any]]:
    """Return "(%s, …), (%s, …)" and its parameters."""
    parameters: list[Any] = []
    clauses = []
    for row in rows:
        clauses.append("(" + ", ".join(["%s"] * len(row)) + ")")
        parameters.extend(to_database(value) for value in row)
    return ", ".join(clauses), parameters

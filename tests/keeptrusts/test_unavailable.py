"""What the console says while the database does not do its part."""

from __future__ import annotations

import pytest
from django.db import InternalError, OperationalError
from django.test import RequestFactory
from psycopg.errors import InFailedSqlTransaction, ReadOnlySqlTransaction

from keeptrusts.errors import server_error

pytestmark = pytest.mark.once


def answered(error: Exception, path: str = "/admin/") -> tuple[int, str | None]:
    try:
        raise error
    except Exception:
        response = server_error(RequestFactory().get(path))
    return response.status_code, response.headers.get("Retry-After")


def caused_by(cause: Exception) -> InternalError:
    error = InternalError("of the database")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("path", ["/admin/", "/api/v1/me/"])
def test_a_database_that_is_away_full_or_read_only_is_503_and_worth_another_try(path: str) -> None:
    assert answered(OperationalError("database or disk is full"), path) == (503, "1")
    assert answered(caused_by(ReadOnlySqlTransaction()), path) == (503, "1")


def test_a_fault_of_ours_stays_500() -> None:
    assert answered(ValueError("ours")) == (500, None)
    assert answered(caused_by(InFailedSqlTransaction())) == (500, None)

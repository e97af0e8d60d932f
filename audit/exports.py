"""CSV for people: cells that no spreadsheet takes for a formula, sent row by row, and an entry for every export."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import batched
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpRequest, QueryDict, StreamingHttpResponse

from audit.actions import AuditAction
from audit.actor import Actor
from audit.models import AuditEntry
from audit.recording import Subject, record
from audit.redaction import redact

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection").
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
ROWS_A_PART: Final = 100


def disarm(cell: object) -> str:
    """Return a cell's text: "" for None, ISO 8601 in UTC for a time, and nothing that a spreadsheet would run."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case datetime():
            return cell.astimezone(UTC).isoformat()
        case int() | float():
            return str(cell)
        case Decimal():
            return f"{cell:f}"
        case _:
            text = redact(str(cell))
            return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def csv_response(
    request: HttpRequest, filename: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> StreamingHttpResponse:
    """Return a download that writes a header and then the rows as they are read; every cell is disarmed."""
    parts: Iterator[str] | AsyncIterator[str] = _parts(columns, rows)
    # Handed a plain iterator, Django's ASGI handler would collect the whole file before it sends the first byte.
    if isinstance(request, ASGIRequest):
        parts = _off_the_loop(_parts(columns, rows))
    response = StreamingHttpResponse(parts, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    response["Cache-Control"] = "no-store"
    # GZipMiddleware would squeeze every part by itself, and browsers read the first part of such a file alone.
    response["Content-Encoding"] = "identity"
    return response


def filters_of(parameters: QueryDict) -> dict[str, str | list[str]]:
    """Return what a list was narrowed by, for `record_export`."""
    return {name: said[0] if len(said) == 1 else said for name, said in parameters.lists()}


def record_export(
    *, action: AuditAction, actor: Actor, object_type: str, filters: Mapping[str, Any], rows: int
) -> AuditEntry:
    """Write that `actor` took `rows` rows, chosen by `filters`, out of the console; before the first one leaves."""
    with transaction.atomic():
        return record(action, actor, Subject(object_type), detail={"filter": dict(filters), "rows": rows})


def _parts(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(columns)
    for some in batched(rows, ROWS_A_PART):
        yield "".join(writer.writerow([disarm(cell) for cell in row]) for row in some)


async def _off_the_loop(parts: Iterator[str]) -> AsyncIterator[str]:
    # In the request's own thread, where its database connection lives.
    step = sync_to_async(lambda: next(parts, None))
    while (part := await step()) is not None:
        yield part


class _Echo:
    """A file whose `write` hands back what it was given, so that csv.writer returns each line."""

    def write(self, line: str) -> str:
        return line

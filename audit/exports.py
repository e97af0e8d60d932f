"""Files of rows for people and programs: sent while they are read, and no file without an entry in the audit log.

The entry is committed before the first byte leaves, with the filter and the rows that were found; a second one says at
the end what was really sent, also when it broke off. Should even the process die, the first one stands.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase

from audit import export_slots
from audit.actions import AuditAction
from audit.actor import Actor
from audit.csv_cells import Column, disarm
from audit.csv_rows import Block, csv_blocks
from audit.models import AuditEntry
from audit.recording import Subject, record

__all__ = ["Export", "disarm", "export", "filters_of", "record_export", "send"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """A kind of file: what the audit log calls taking it, what it is of, its name and its columns."""

    action: AuditAction
    object_type: str
    filename: str
    columns: tuple[Column, ...] = ()
    # Which one of its kind, and what that is called, where there are several.
    object_id: str = ""
    label: str = ""
    content_type: str = "text/csv; charset=utf-8"

    @property
    def subject(self) -> Subject:
        return Subject(self.object_type, self.object_id, self.label)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def export(
    request: HttpRequest, what: Export, rows: QuerySet[Any], *, actor: Actor, filters: Mapping[str, Any]
) -> HttpResponseBase:
    """Return a CSV of `rows`, which are read while it is sent; that it begins is in the audit log by then.

    filters: what the rows were chosen by. Errors: TooManyExports. HEAD takes nothing, and is not recorded.
    """

    def begin() -> tuple[int, Generator[Block]]:
        return rows.count(), csv_blocks(rows, what.columns, seconds=export_slots.LONGEST)

    return send(request, what, begin, actor=actor, filters=filters)


def send(
    request: HttpRequest,
    what: Export,
    begin: Callable[[], tuple[int, Generator[Block]]],
    *,
    actor: Actor,
    filters: Mapping[str, Any],
) -> HttpResponseBase:
    """Return a download of what `begin` gives: how many rows there will be, and the blocks. Otherwise as `export`."""
    if request.method == "HEAD":
        return _response(what, ())
    slot = export_slots.take(actor.id)
    try:
        rows, blocks = begin()
        entry = record_export(action=what.action, actor=actor, about=what.subject, filters=filters, rows=rows)
        sent = _Sent(blocks, what, actor, entry.pk, slot)
        # Handed a plain iterator, Django's ASGI handler would collect the whole file before it sends the first byte.
        return _response(what, _SentByLoop(sent) if isinstance(request, ASGIRequest) else sent)
    except BaseException:
        export_slots.give_back(slot)
        raise


def filters_of(parameters: QueryDict) -> dict[str, str | list[str]]:
    """Return what a list was narrowed by, for `record_export`."""
    return {name: said[0] if len(said) == 1 else said for name, said in parameters.lists()}


def record_export(
    *, action: AuditAction, actor: Actor, about: Subject, filters: Mapping[str, Any], rows: int
) -> AuditEntry:
    """Write that `actor` takes `rows` rows, chosen by `filters`, out of the console; before the first one leaves."""
    with transaction.atomic():
        return record(action, actor, about, detail={"filter": dict(filters), "rows": rows})


class _Sent:
    """The blocks of one export, counted as they are handed over; its end is recorded, whichever way it ends."""

    def __init__(self, blocks: Generator[Block], what: Export, actor: Actor, entry_id: int, slot: int) -> None:
        self._blocks, self._what, self._actor, self._entry_id = blocks, what, actor, entry_id
        self._rows = self._bytes = 0
        self._ended = False
        # Called by `close`; and where nobody calls that, because the caller hung up before there was an answer.
        self._give_back = weakref.finalize(self, export_slots.give_back, slot)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            block = next(self._blocks, None)
        except Exception:
            self.close()
            # Django's ASGI handler closes nothing after an error: the connection would be missing in its pool.
            if not connection.in_atomic_block:
                connection.close()
            raise
        if block is None:
            # Before whoever reads is told that this was all: a file that looks whole has been recorded.
            self._end(AuditAction.EXPORT_FINISHED)
            raise StopIteration
        content, rows = block
        self._rows += rows
        self._bytes += len(content)
        return content

    def close(self) -> None:
        """End the query if it still runs, record how far it came, and let the next export begin."""
        try:
            self._blocks.close()
            self._end(AuditAction.EXPORT_BROKEN_OFF)
        except Exception:
            log.exception("The end of export %s could not be recorded.", self._entry_id)
        finally:
            self._give_back()

    def _end(self, action: AuditAction) -> None:
        if self._ended:
            return
        self._ended = True
        told = {"export": self._entry_id, "rows": self._rows, "bytes": self._bytes}
        with transaction.atomic():
            record(action, self._actor, self._what.subject, detail=told)


class _SentByLoop:
    """The same under ASGI: every block is read in the request's own thread, where its database connection lives."""

    def __init__(self, sent: _Sent) -> None:
        self._sent = sent
        # Django closes what it finds here, in the same thread.
        self.close = sent.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Who stops reading without hanging up would keep this task waiting for ever.
        task = asyncio.current_task()
        deadline = asyncio.get_running_loop().call_later(export_slots.LONGEST, task.cancel) if task else None
        step = sync_to_async(lambda: next(self._sent, None))
        try:
            while (block := await step()) is not None:
                yield block
        finally:
            if deadline is not None:
                deadline.cancel()


def _response(what: Export, parts: Any) -> StreamingHttpResponse:
    response = StreamingHttpResponse(parts, content_type=what.content_type)
    response["Content-Disposition"] = f'attachment; filename="{what.filename}"'
    response["Cache-Control"] = "no-store"
    # GZipMiddleware would squeeze every part by itself, and browsers read the first part of such a file alone.
    response["Content-Encoding"] = "identity"
    return response

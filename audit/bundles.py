"""Evidence bundles: entries with the proof that they are in the log as they were written; `audit.evidence` checks."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from itertools import batched
from typing import Any, Final

from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.csv_rows import Block
from audit.evidence import FORMAT
from audit.exports import Export, send
from audit.merkle import Levels
from audit.models import AuditEntry, AuditLeaf, Checkpoint
from audit.sealing import newest_checkpoint

CHUNK: Final = 2_000
# Lines that are sent at once.
LINES: Final = 200
EVIDENCE: Final = Export(
    AuditAction.AUDIT_EXPORTED, "audit_entry", "evidence.ndjson", content_type="application/x-ndjson"
)


def evidence(
    request: HttpRequest,
    entries: QuerySet[AuditEntry],
    *,
    actor: Actor,
    filters: Mapping[str, Any],
    since: int | None = None,
) -> HttpResponseBase:
    """Return a bundle of `entries` as a download, recorded like every export.

    filters: what they were chosen by, as for `Bundle`. Errors: NoEvidence, TooManyExports.
    """

    def begin() -> tuple[int, Generator[Block]]:
        bundle = Bundle(entries, dict(filters), since=since)
        return bundle.rows, bundle.blocks()

    told = {**filters, "format": FORMAT} | ({"since": since} if since is not None else {})
    return send(request, EVIDENCE, begin, actor=actor, filters=told)


class NoEvidence(Exception):
    """A bundle cannot be made; the message says why and what to do."""


class Bundle:
    """What a bundle is made of: decided, and its proofs at hand, before the first line is written."""

    def __init__(self, entries: QuerySet[AuditEntry], filters: dict[str, Any], *, since: int | None = None) -> None:
        """Take the entries that the newest checkpoint covers.

        filters: what chose them, {} where they are the whole log. since: the number of an older checkpoint that the log
        is proven to have grown from; the first one unless told. Memory: 64 bytes an entry of the log, unless complete.
        Errors: NoEvidence.
        """
        checkpoint = newest_checkpoint()
        if checkpoint is None:
            raise NoEvidence("Nothing is sealed yet: the sealer writes the first checkpoint within seconds.")
        older = Checkpoint.objects.filter(size__gt=0).order_by("number")
        if since is not None:
            older = older.filter(number=since)
        self._since = older.first()
        if since is not None and self._since is None:
            raise NoEvidence(f"There is no checkpoint {since} that covers an entry.")
        self.checkpoint = checkpoint
        self._entries = (
            entries.filter(leaf__index__lt=checkpoint.size).annotate(place=F("leaf__index")).order_by("leaf__index")
        )
        self.rows = self._entries.count()
        self.pending = entries.filter(leaf__isnull=True).count()
        self._complete = not filters and self.rows == checkpoint.size
        self._filters = filters
        leaves = AuditLeaf.objects.filter(index__lt=checkpoint.size).order_by("index")
        self._levels = Levels(bytes(leaf) for leaf in leaves.values_list("hash", flat=True).iterator(CHUNK))
        if (self._levels.size, self._levels.root()) != (checkpoint.size, bytes(checkpoint.root)):
            raise NoEvidence("The log does not fit its newest checkpoint, so nothing can be proven. Verify it first.")

    def lines(self) -> Iterator[str]:
        """Give the bundle, a line of JSON at a time."""
        yield _line(
            {
                "format": FORMAT,
                "made_at": clock.now().isoformat(),
                "filter": self._filters,
                "complete": self._complete,
                "checkpoint": self.checkpoint.note,
                "since": self._grown_from(),
                "not_sealed_yet": self.pending,
            }
        )
        written = 0
        for entry in self._entries.iterator(CHUNK):
            row: dict[str, Any] = {"index": entry.place, "entry": entry.canonical().decode()}
            if not self._complete:
                row["proof"] = [node.hex() for node in self._levels.inclusion(entry.place, self.checkpoint.size)]
            yield _line(row)
            written += 1
        yield _line({"end": written})

    def blocks(self) -> Generator[Block]:
        """Give the bundle as it is sent: bytes, and how many entries are in them."""
        for some in batched(self.lines(), LINES):
            # The first line and the last are no entries.
            yield "".join(some).encode(), sum(line.startswith('{"index"') for line in some)

    def _grown_from(self) -> dict[str, Any] | None:
        if self._since is None:
            return None
        proof = self._levels.consistency(self._since.size, self.checkpoint.size)
        return {"checkpoint": self._since.note, "proof": [node.hex() for node in proof]}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"

"""What stands in the cells of a CSV file, the same whether PostgreSQL writes them or this process does.

RFC 4180: commas, CRLF, quotes only where a cell needs them; UTF-8 without a byte order mark, which programs would take
for a part of the first column's name. Times are ISO 8601 in UTC with microseconds and Z, so that they sort as texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from django.db.models import F
from django.db.models.expressions import Combinable

from audit.redaction import SECRET, redact

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), in full-width forms too.
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # meant


class Kind(Enum):
    """What a column holds, and so how a cell of it is written."""

    # Numbers, ids and addresses: never a formula, written as they are.
    NUMBER = "number"
    # Words that only we choose, as of a status.
    WORD = "word"
    # Whatever somebody typed.
    TEXT = "text"
    INSTANT = "instant"
    DAY = "day"
    # A span, in whole days.
    DAYS = "days"
    JSON = "json"
    # A list of texts, with spaces between them.
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file. source: of the query's model or annotations; without one, the name itself."""

    name: str
    kind: Kind
    source: str | Combinable = ""

    @property
    def expression(self) -> Combinable:
        """Return what a query selects for it."""
        source = self.source or self.name
        return F(source) if isinstance(source, str) else source


def disarm(cell: object) -> str:
    """Return a cell's text: "" for None, and nothing that a spreadsheet would run."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case datetime():
            return instant(cell)
        case int() | float() | Decimal():
            return number(cell)
        case _:
            return text(str(cell))


def instant(at: datetime) -> str:
    """Return `at` as `2026-11-24T14:05:09.000123Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def number(cell: object) -> str:
    match cell:
        case Decimal():
            return f"{cell:f}"
        case float():
            # As PostgreSQL writes it.
            return repr(cell).removesuffix(".0")
        case _:
            return str(cell)


def text(cell: object) -> str:
    """Return what somebody typed: disarmed, and with every secret cut down to its hint."""
    said = redact(str(cell))
    return f"'{said}" if said.startswith(FORMULA_STARTS) else said


def in_json(cell: object) -> str:
    """Return JSON as PostgreSQL writes what it keeps: shorter names first, names of one length by their bytes."""
    return redact(json.dumps(_in_order(cell), ensure_ascii=False))


def writers(columns: tuple[Column, ...]) -> list[Callable[[Any], str]]:
    """Return, for each column, what turns a value of the database that is not None into its cell."""
    return [_WRITERS[column.kind] for column in columns]


def in_sql(column: Column, name: str) -> str:
    """Return PostgreSQL's expression for the cell of `column`, whose value is `name`; NULL where it is empty."""
    return _IN_SQL[column.kind].format(name)


def _in_order(value: object) -> object:
    match value:
        case dict():
            names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
            return {name: _in_order(value[name]) for name in names}
        case list():
            return [_in_order(item) for item in value]
        case _:
            return value


_WRITERS: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.NUMBER: number,
    Kind.WORD: str,
    Kind.TEXT: text,
    Kind.INSTANT: instant,
    Kind.DAY: lambda at: f"{at:%Y-%m-%d}",
    Kind.DAYS: lambda span: str(span.days),
    Kind.JSON: in_json,
    Kind.LIST: lambda items: text(" ".join(items)),
}
# Braces of the pattern are none of the format's.
_SECRET: Final = SECRET.pattern.replace("{", "{{").replace("}", "}}")
# The look for how secrets begin comes first: almost no cell has one, and a regular expression costs more than all else.
_REDACTED: Final = (
    "CASE WHEN strpos({0}, 'kt_') > 0 OR strpos({0}, 'whsec_') > 0 "
    f"THEN regexp_replace({{0}}, '{_SECRET}', '\\1\\2…', 'g') ELSE {{0}} END"
)
_STARTS: Final = "".join(FORMULA_STARTS).replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
_DISARMED: Final = (
    f"CASE WHEN {{0}} = '' THEN NULL WHEN strpos(E'{_STARTS}', left({{0}}, 1)) > 0 "
    f"THEN '''' || ({_REDACTED}) ELSE {_REDACTED} END"
)
_IN_SQL: Final[dict[Kind, str]] = {
    Kind.NUMBER: "{0}",
    Kind.WORD: "NULLIF({0}, '')",
    Kind.TEXT: _DISARMED,
    Kind.INSTANT: """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    Kind.DAY: "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    Kind.DAYS: "floor(extract(epoch FROM {0}) / 86400)::bigint",
    Kind.JSON: _REDACTED.replace("{0}", "{0}::text"),
    Kind.LIST: _DISARMED.replace("{0}", "array_to_string(ARRAY(SELECT jsonb_array_elements_text({0})), ' ')"),
}

"""Request bodies: JSON that means one thing only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Final

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

# Deeper than anything that we take, and far from what Python's own stack bears.
MOST_LEVELS: Final = 20
# Escapes for which the strings have to be looked through: NUL and halves of a surrogate pair.
_SUSPICIOUS: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class StrictJSONParser(JSONParser):
    """Parses one JSON object in UTF-8 (RFC 8259); ParseError, with a code, for whatever is ambiguous or broken.

    Refused: NaN and infinities, a name given twice, NUL characters and lone surrogates in any string, more than
    MOST_LEVELS levels. Errors: RequestDataTooBig above DATA_UPLOAD_MAX_MEMORY_SIZE.
    """

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        raw = stream.read()
        if len(raw) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise ParseError("The body is not UTF-8.", code="not_utf8") from error
        try:
            data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}", code="not_json") from error
        if not isinstance(data, dict):
            raise ParseError("The body is not a JSON object.", code="not_an_object")
        strings = list(_strings(data))
        if _SUSPICIOUS.search(text):
            _check_characters(strings)
        return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ParseError("A name occurs twice in one object.", code="duplicate_name")
    return names


def _no_constant(name: str) -> float:
    raise ParseError(f"{name} is not JSON.", code="not_json")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ParseError("A number is too large.", code="not_json")
    return number


def _check_characters(strings: Iterable[str]) -> None:
    for string in strings:
        if "\x00" in string:
            raise ParseError("NUL characters are not allowed.", code="null_characters_not_allowed")
        if any("\ud800" <= character <= "\udfff" for character in string):
            raise ParseError("Half of a surrogate pair is no character.", code="surrogate_characters_not_allowed")


def _strings(data: Any) -> Iterator[str]:
    """Yield every string, names included, without recursion; ParseError below MOST_LEVELS."""
    level, below = 0, [data]
    while below:
        level, here, below = level + 1, below, []
        if level > MOST_LEVELS:
            raise _too_deep()
        for item in here:
            if isinstance(item, str):
                yield item
            elif isinstance(item, dict):
                below.extend((*item, *item.values()))
            elif isinstance(item, list):
                below.extend(item)


def _too_deep() -> ParseError:
    return ParseError(f"The body is nested deeper than {MOST_LEVELS} levels.", code="too_deep")

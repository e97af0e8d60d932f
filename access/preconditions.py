"""Two editors do not overwrite each other: a change may say in which state it knows its object (RFC 9110 §13.1).

A tag stands for a state: what verbs change, and after a dot what time alone has made of it. Whoever reads compares
the whole tag; whoever changes, only what stands before the dot: no editor has been there when a grace is over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.crypto import salted_hmac

from audit.recording import plain

IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"
LONGEST_HEADER: Final = 2_000

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_TAGS: Final = re.compile(rf"\s*(?:{_TAG.pattern}\s*(?:,\s*|$))+")
_STATE: Final = re.compile(r"[0-9a-f]*")


class PreconditionFailed(Exception):
    """The object is not in the state in which the caller knows it, and nothing was changed. tag: of its present one."""

    def __init__(self, obj: models.Model, tag: str) -> None:
        super().__init__("This was changed meanwhile. Read it again, and decide anew.")
        self.obj = obj
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Precondition:
    """Change the object only in one of the states that these tags stand for."""

    tags: frozenset[str]

    def require(self, obj: models.Model, tag: str) -> None:
        """Return if `tag`, read under the lock of `obj`, is of a state that is expected; else PreconditionFailed."""
        if _state(tag) not in {_state(expected) for expected in self.tags}:
            raise PreconditionFailed(obj, tag)


def tag_of(facts: Mapping[str, Any], *, by_time: str = "") -> str:
    """Return the tag of a state. facts: all of it that verbs change; by_time: what time alone has made of it.

    Keyed with the installation's secret: nobody finds out what they may not see by making tags of guesses.
    """
    text = json.dumps(plain(facts), sort_keys=True)
    state = salted_hmac("access.preconditions", text, algorithm="sha256").hexdigest()[:32]
    return f"{state}.{by_time}" if by_time else state


def parse_if_match(header: str | None) -> Precondition | None:
    """Return what `If-Match` demands; None for none, and for `*`: that the object exists is known already.

    A proxy that compresses makes our tag weak, or adds its own word to the end: it stays the same state.
    Errors: ValidationError for what is no list of tags.
    """
    tags = _parse(IF_MATCH, header)
    return None if tags is None else Precondition(tags)


def is_known(header: str | None, tag: str) -> bool:
    """Say whether `If-None-Match` names this very tag (weak comparison), or any. Errors: ValidationError."""
    tags = _parse(IF_NONE_MATCH, header)
    return (header is not None and tags is None) or (tags is not None and tag in tags)


def _parse(name: str, header: str | None) -> frozenset[str] | None:
    if header is None or header.strip() == "*":
        return None
    if len(header) > LONGEST_HEADER or _TAGS.fullmatch(header) is None:
        message = 'This is * or a list of entity tags such as "5f1c…".'
        raise ValidationError({name: ValidationError(message, code="invalid")})
    return frozenset(_TAG.findall(header))


def _state(tag: str) -> str:
    found = _STATE.match(tag)
    return found[0] if found else ""

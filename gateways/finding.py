"""Whose is a value that somebody has found? Looked up in memory, by its digest; nothing of it is kept anywhere.

What the member may not see is answered in the same words as what nobody has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.views.decorators.debug import sensitive_variables

from access.models import AccessKey, Member
from access.tokens import CHECK_CHARACTERS as CHECKED
from access.tokens import HINT_LENGTH, RANDOM_CHARACTERS, TokenKind, digest_of
from gateways.models import Gateway
from keys.models import KeyVersion

# Longer texts are not looked through: a value has 38 characters, a line of a log a few hundred.
MOST_TEXT: Final = 10_000
# So many keys may share a hint before it says too little.
MOST_FOUND: Final = 20
_BODY: Final = RANDOM_CHARACTERS + CHECKED
# Also a value with something typed wrongly in it, so that it can be told what.
_CANDIDATE: Final = re.compile(r"kt_(?:gk|gt|ak)_[A-Za-z0-9]*")


class Verdict(StrEnum):
    """What can be said of a text before, and after, it was looked up."""

    NOTHING = "nothing"
    MALFORMED = "malformed"
    BAD_CHECKSUM = "bad_checksum"
    UNKNOWN = "unknown"
    FOUND = "found"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a text is. Holds no part of it but what may be shown: of a value, nothing.

    by_hint: whether only a hint was given, which several may share. length: characters after the prefix, where the
    shape is wrong.
    """

    verdict: Verdict
    kind: TokenKind | None = None
    by_hint: bool = False
    length: int = 0
    versions: tuple[KeyVersion, ...] = ()
    access_keys: tuple[AccessKey, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    # Of more than one value in the text only the first was looked at.
    is_first_of_many: bool = False


@sensitive_variables("text", "values", "value")
def find(text: str, member: Member) -> Finding:
    """Return what the first value, or hint, in `text` is, as far as `member` may know it."""
    values = _CANDIDATE.findall(text[:MOST_TEXT])
    if not values:
        return Finding(Verdict.NOTHING)
    value = values[0]
    many = len(set(values)) > 1
    kind = next(kind for kind in TokenKind if value.startswith(kind.value))
    body = value.removeprefix(kind.value)
    if len(value) == HINT_LENGTH:
        return _looked_up(kind, member, many, hint=f"{value}…")
    if len(body) != _BODY or body.lower() != body:
        return Finding(Verdict.MALFORMED, kind, length=len(body), is_first_of_many=many)
    digest = digest_of(value.encode(), kind)
    if digest is None:
        return Finding(Verdict.BAD_CHECKSUM, kind, is_first_of_many=many)
    return _looked_up(kind, member, many, digest=digest)


def _looked_up(kind: TokenKind, member: Member, many: bool, **by: str | bytes) -> Finding:
    versions: tuple[KeyVersion, ...] = ()
    access_keys: tuple[AccessKey, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    match kind:
        case TokenKind.GATEWAY_KEY:
            found = KeyVersion.objects.filter(**by).order_by("-created_at", "-id")
            related = ("key__consumer_group", "key__created_by", "key__metrics", "metrics")
            versions = tuple(member.visible(found).select_related(*related)[:MOST_FOUND])
        case TokenKind.ACCESS_KEY:
            theirs = AccessKey.objects.filter(**by).select_related("owner")
            access_keys = tuple(member.visible(theirs)[:MOST_FOUND])
        case TokenKind.GATEWAY_TOKEN:
            having = Gateway.objects.filter(**{f"tokens__{name}": value for name, value in by.items()}).distinct()
            gateways = tuple(member.visible(having)[:MOST_FOUND])
    verdict = Verdict.FOUND if versions or access_keys or gateways else Verdict.UNKNOWN
    return Finding(
        verdict,
        kind,
        by_hint="hint" in by,
        versions=versions,
        access_keys=access_keys,
        gateways=gateways,
        is_first_of_many=many,
    )

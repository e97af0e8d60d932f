"""How people look for a gateway key: by name, description, id, or the hint of any of its versions."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from django.db.models import Q, QuerySet

from access.tokens import HINT_LENGTH, TokenKind
from keys.models import GatewayKey, KeyVersion

# So many keys that a hint finds are looked up one by one.
MOST_KEYS: Final = 200
# What is shown of a value after its prefix, without the prefix.
_SHORT: Final = re.compile(r"[a-z0-9]{1,4}…?", re.ASCII)
# Fewer characters would be those of many a word.
_START_OF_ID: Final = re.compile(r"[0-9a-f]{4}[0-9a-f-]{0,31}", re.ASCII)


def search(keys: QuerySet[GatewayKey], text: str) -> QuerySet[GatewayKey]:
    """Narrow `keys` to those that hold every word of `text`.

    A hint finds its key after a rotation too. A whole value, pasted by mistake, is looked for by its hint.
    """
    for word in text.replace("\x00", "").split():
        keys = keys.filter(_matches(word))
    return keys


def _matches(word: str) -> Q:
    word_of_name = Q(name__icontains=word) | Q(description__icontains=word)
    if word.lower().startswith(TokenKind.GATEWAY_KEY.value):
        hint = word.lower().rstrip("…")[:HINT_LENGTH]
        found = KeyVersion.objects.filter(hint__startswith=hint).order_by()
        some = list(found.values_list("key", flat=True)[: MOST_KEYS + 1])
        # A few are looked up by their ids; a hint that hardly says anything is held against every key.
        return Q(pk__in=some if len(some) <= MOST_KEYS else found.values("key")) | Q(name__icontains=word)
    try:
        return Q(pk=UUID(word))
    except ValueError:
        pass
    if _SHORT.fullmatch(word.lower()):
        word_of_name |= Q(hint__startswith=TokenKind.GATEWAY_KEY.value + word.lower().rstrip("…"))
    return word_of_name | _begins_like(word.lower())


def _begins_like(word: str) -> Q:
    """The condition for ids that begin with `word`, as a range of them: nothing where no id can."""
    digits = word.replace("-", "")
    if not _START_OF_ID.fullmatch(word) or str(UUID(digits.ljust(32, "0")))[: len(word)] != word:
        return Q()
    return Q(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f")))

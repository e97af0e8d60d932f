"""How people look for a gateway key: by name, description, id, or the hint of any of its versions."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from access.tokens import HINT_LENGTH, TokenKind
from keys.models import GatewayKey, KeyVersion


def search(keys: QuerySet[GatewayKey], text: str) -> QuerySet[GatewayKey]:
    """Narrow `keys` to those that hold every word of `text`.

    A hint finds its key after a rotation too. A whole value, pasted by mistake, is looked for by its hint.
    """
    for word in text.replace("\x00", "").split():
        keys = keys.filter(_matches(word))
    return keys


def _matches(word: str) -> Q:
    if word.lower().startswith(TokenKind.GATEWAY_KEY.value):
        hint = word.lower().rstrip("…")[:HINT_LENGTH]
        versions = KeyVersion.objects.filter(key=OuterRef("pk"), hint__startswith=hint)
        return Q(Exists(versions)) | Q(name__icontains=word)
    try:
        return Q(pk=UUID(word))
    except ValueError:
        return (
            Q(name__icontains=word) | Q(description__icontains=word) | Q(id__icontains=word) | Q(hint__icontains=word)
        )

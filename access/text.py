"""Free text from people, checked where it enters a verb, whatever door it came through."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from django.core.exceptions import ValidationError

from audit.redaction import holds_secret


def clean_text(text: str, *, field: str, limit: int, required: bool = False, lines: bool = False) -> str:
    """Return `text` without surrounding space.

    limit: characters. lines: whether it may have more than one line.
    Errors: ValidationError at `field` for text that is too long, empty though required, holds control characters
    (NUL among them, which PostgreSQL cannot store), or holds a secret value, which must not be kept anywhere.
    """
    text = text.strip()
    if required and not text:
        raise ValidationError({field: ValidationError("This may not be blank.", code="blank")})
    if len(text) > limit:
        message = f"At most {limit:,} characters, not {len(text):,}."
        raise ValidationError({field: ValidationError(message, code="max_length")})
    allowed = "\n\r\t" if lines else ""
    if any(unicodedata.category(character) in {"Cc", "Cs"} and character not in allowed for character in text):
        raise ValidationError({field: ValidationError("Control characters are not allowed.", code="control_character")})
    if holds_secret(text):
        message = "This looks like a secret value, which is never stored. Use its hint (the first ten characters)."
        raise ValidationError({field: ValidationError(message, code="secret_value")})
    return text


def refuse_unknown(fields: Iterable[str], known: Collection[str]) -> None:
    """Return if every one of `fields` is known; else ValidationError at each that is not: refused, not ignored."""
    if unknown := set(fields) - set(known):
        raise ValidationError({field: ValidationError("Unknown field.", code="unknown_field") for field in unknown})

"""A form of the console that makes a secret, or changes much, is carried out once, however often it is sent.

That is a double click, or a reload.

The form carries a token; the token is claimed in the transaction of the effect, or before it where that is many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.db import IntegrityError, transaction

from access.models import IdempotencyRecord, Member
from audit import clock


class AlreadyDone(Exception):
    """This form was carried out before. note: what the first time wrote down, never a secret."""

    def __init__(self, note: dict[str, Any]) -> None:
        super().__init__("This form was carried out before.")
        self.note = note


class TokenField(forms.UUIDField):
    """The form's token, made anew whenever the form is shown for the first time."""

    def __init__(self) -> None:
        super().__init__(
            widget=forms.HiddenInput,
            initial=uuid4,
            error_messages={"required": "The form is incomplete. Load the page again."},
        )


@contextmanager
def once(*, member: Member, path: str, token: UUID) -> Iterator[dict[str, Any]]:
    """Carry out the block, in one transaction, unless a form with this token was carried out before.

    Yields the note, a dict that the block fills for who comes second. Errors: AlreadyDone, with that note; a block
    that is still running elsewhere is waited for.
    """
    note: dict[str, Any] = {}
    with transaction.atomic():
        claim = _claim(member, path[:300], f"form {token}")
        yield note
        claim.body = note
        claim.save(update_fields=["body"])


@contextmanager
def begin_once(*, member: Member, path: str, token: UUID) -> Iterator[dict[str, Any]]:
    """Carry out the block, which makes transactions of its own, unless a form with this token was begun before.

    Yields the note, which is kept when the block ends, however that is, for who asks `note_of`. Errors: AlreadyDone,
    with the note as far as it is known.
    """
    claim = _claim(member, path[:300], f"form {token}")
    note: dict[str, Any] = {}
    try:
        yield note
    finally:
        claim.body = note
        claim.save(update_fields=["body"])


def note_of(*, member: Member, path: str, token: UUID) -> dict[str, Any] | None:
    """Return the note of a form that this member has sent; {} while it is carried out, None where there is none."""
    sent = IdempotencyRecord.objects.filter(member=member, method="POST", path=path[:300], key=f"form {token}").first()
    return None if sent is None else sent.body or {}


def _claim(member: Member, path: str, key: str) -> IdempotencyRecord:
    identity = {"member": member, "method": "POST", "path": path, "key": key}
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(
                **identity,
                body_hash=hashlib.sha256(key.encode()).digest(),
                held_secret=True,
                created_at=clock.now(),
            )
    except IntegrityError:
        raise AlreadyDone(IdempotencyRecord.objects.get(**identity).body or {}) from None

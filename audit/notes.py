"""Checkpoints as signed text that stands without us: C2SP tlog-checkpoint in a C2SP signed-note, with Ed25519.

    keeptrusts.example.com/audit                                        origin
    1234                                                                entries under the root
    gYPL…=                                                              root, base64 (RFC 6962 §2.1)
    number 57                                                           counted from 1, without a gap
    previous 5e1f…                                                      SHA-256 of the previous checkpoint's text
    at 2026-11-24T14:05:00.000000Z

    — keeptrusts.example.com/audit Az3grl…=                             key id (4 bytes) and signature (RFC 8032)

Nothing here knows of Django or a database: `audit.evidence` checks with it on a machine that has neither.
https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519: Final = b"\x01"
# What the first checkpoint names as the one before it.
NO_PREVIOUS: Final = "0" * 64


class NoteError(ValueError):
    """A text is no checkpoint, or no key; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key that checkpoints may be signed with, and whose it is said to be ("" = anybody's)."""

    public: bytes
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+id+base64` as `manage.py audit_key` prints it, or the 32 bytes alone in base64.

        Errors: NoteError.
        """
        text = text.strip()
        *before, encoded = text.split("+", 2) if text.count("+") >= 2 and not _is_base64(text, 32) else (text,)
        try:
            raw = b64decode(encoded, validate=True)
        except Base64Error as error:
            raise NoteError("a public key is name+id+base64 as `manage.py audit_key` prints it") from error
        if not before:
            if len(raw) != 32:
                raise NoteError("a public key is name+id+base64 as `manage.py audit_key` prints it")
            return cls(raw)
        name, key_id = before
        if raw[:1] != ED25519 or len(raw) != 33:
            raise NoteError("only Ed25519 keys are known here")
        key = cls(raw[1:], name)
        if key.id_for(name).hex() != key_id:
            raise NoteError("the public key does not fit its id: was a part of it lost in copying?")
        return key

    def __str__(self) -> str:
        name = self.name or "keeptrusts"
        return f"{name}+{self.id_for(name).hex()}+{b64encode(ED25519 + self.public).decode()}"

    def id_for(self, name: str) -> bytes:
        """Return the four bytes by which a signature line names this key."""
        return hashlib.sha256(name.encode() + b"\n" + ED25519 + self.public).digest()[:4]


@dataclass(frozen=True, slots=True)
class Statement:
    """What one checkpoint states. previous: SHA-256 of the text of the checkpoint before, hexadecimal."""

    origin: str
    size: int
    root: bytes
    number: int
    previous: str
    at: datetime

    def text(self) -> str:
        """Return what is signed and what the next checkpoint's `previous` is the hash of."""
        at = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        root = b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\nnumber {self.number}\nprevious {self.previous}\nat {at}\n"

    def digest(self) -> str:
        """Return the SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def signed(self, key: Ed25519PrivateKey) -> str:
        """Return the note: the text and a line with its signature."""
        text = self.text()
        public = VerifierKey(key.public_key().public_bytes_raw())
        signature = b64encode(public.id_for(self.origin) + key.sign(text.encode())).decode()
        return f"{text}\n— {self.origin} {signature}\n"


def parse(note: str) -> Statement:
    """Read the text of a note; its signatures are not looked at. Errors: NoteError."""
    text, _ = _halves(note)
    try:
        origin, size, root, number, previous, at = text.removesuffix("\n").split("\n")
        statement = Statement(
            origin=origin,
            size=int(size),
            root=b64decode(root, validate=True),
            number=int(number.removeprefix("number ")),
            previous=previous.removeprefix("previous "),
            at=datetime.strptime(at, "at %Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC),
        )
    except ValueError as error:
        raise NoteError("it does not read as a checkpoint of Keeptrusts") from error
    # So that one checkpoint has one text, and nothing is passed over in silence.
    if statement.text() != text:
        raise NoteError("it does not read as a checkpoint of Keeptrusts")
    return statement


def signed_by(note: str, keys: Iterable[VerifierKey]) -> VerifierKey | None:
    """Return the first of `keys` that has signed the note; None where none has.

    Errors: NoteError where a line names one of the keys and its signature is wrong (C2SP signed-note: such a note
    "MUST be rejected").
    """
    text, lines = _halves(note)
    keys = list(keys)
    for line in lines:
        name, key_id, signature = _signature(line)
        for key in keys:
            if (key.name and key.name != name) or key.id_for(name) != key_id:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
            except InvalidSignature as error:
                raise NoteError(f"its signature by {name} is wrong") from error
            return key
    return None


def _halves(note: str) -> tuple[str, list[str]]:
    text, middle, signatures = note.rpartition("\n\n")
    if not middle:
        raise NoteError("it bears no signature")
    return text + "\n", signatures.removesuffix("\n").split("\n")


def _signature(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise NoteError("a line among its signatures is none")
    try:
        raw = b64decode(parts[2], validate=True)
    except Base64Error as error:
        raise NoteError("a signature is no base64") from error
    return parts[1], raw[:4], raw[4:]


def _is_base64(text: str, length: int) -> bool:
    try:
        return len(b64decode(text, validate=True)) == length
    except Base64Error:
        return False

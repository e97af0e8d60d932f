"""The one shape of every secret that Keeptrusts gives out (design §4).

`kt_gk_` + 26 random characters of [a-z0-9] (134 bits) + 6 characters of checksum. The checksum catches typing
errors before any look-up; it is no security.
"""

from __future__ import annotations

import re
import secrets
import string
from enum import StrEnum
from hashlib import sha256
from zlib import crc32

ALPHABET = string.digits + string.ascii_lowercase
RANDOM_CHARACTERS = 26
CHECK_CHARACTERS = 6
HINT_LENGTH = 10
DIGEST_BYTES = 32

_CHECKSUMS: int = len(ALPHABET) ** CHECK_CHARACTERS


class TokenKind(StrEnum):
    GATEWAY_KEY = "kt_gk_"
    GATEWAY_TOKEN = "kt_gt_"
    ACCESS_KEY = "kt_ak_"

    def __init__(self, prefix: str) -> None:
        # Found on the member itself: a look-up by the member would hash its name each time.
        self.has_shape = re.compile(rf"{prefix}[a-z0-9]{{32}}".encode()).fullmatch


def generate(kind: TokenKind) -> str:
    """Return a new secret value of this kind; nothing of it is kept."""
    body = kind.value + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + _checksum(body)


def is_well_formed(value: str, kind: TokenKind) -> bool:
    """Say whether `value` has the shape and checksum of this kind: what has not, need not be looked up."""
    # What UTF-8 cannot write has not the shape either.
    return digest_of(value.encode(errors="replace"), kind) is not None


def digest(value: str) -> bytes:
    """Return what is stored of a secret: its SHA-256, 32 bytes. With 134 random bits there is nothing to guess."""
    return sha256(value.encode()).digest()


def digest_of(value: bytes, kind: TokenKind) -> bytes | None:
    """Return the digest of a value as it was sent; None where it has not the shape and checksum of this kind."""
    if kind.has_shape(value) is None or int(value[-6:], 36) != crc32(value[:-6]) % _CHECKSUMS:
        return None
    return sha256(value).digest()


def hint(value: str) -> str:
    """Return the only part that is ever shown again: prefix and first four characters, and an ellipsis."""
    return value[:HINT_LENGTH] + "…"


def _checksum(body: str) -> str:
    number = crc32(body.encode()) % _CHECKSUMS
    digits = ""
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits

"""The one shape of every secret that Keeptrusts gives out (design §4).

`kt_gk_` + 26 random characters of [a-z0-9] (134 bits) + 6 characters of checksum. The checksum catches typing
errors before any look-up; it is no security.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from enum import StrEnum

ALPHABET = string.digits + string.ascii_lowercase
RANDOM_CHARACTERS = 26
CHECK_CHARACTERS = 6
HINT_LENGTH = 10
DIGEST_BYTES = 32

_SHAPE = re.compile(r"kt_(?:gk|gt|ak)_[a-z0-9]{32}")


class TokenKind(StrEnum):
    GATEWAY_KEY = "kt_gk_"
    GATEWAY_TOKEN = "kt_gt_"
    ACCESS_KEY = "kt_ak_"


def generate(kind: TokenKind) -> str:
    """Return a new secret value of this kind; nothing of it is kept."""
    body = kind.value + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + _checksum(body)


def is_well_formed(value: str, kind: TokenKind) -> bool:
    """Say whether `value` has the shape and checksum of this kind: what has not, need not be looked up."""
    return (
        value.startswith(kind.value)
        and _SHAPE.fullmatch(value) is not None
        and _checksum(value[:-CHECK_CHARACTERS]) == value[-CHECK_CHARACTERS:]
    )


def digest(value: str) -> bytes:
    """Return what is stored of a secret: its SHA-256, 32 bytes. With 134 random bits there is nothing to guess."""
    return hashlib.sha256(value.encode()).digest()


def hint(value: str) -> str:
    """Return the only part that is ever shown again: prefix and first four characters, and an ellipsis."""
    return value[:HINT_LENGTH] + "…"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode()) % len(ALPHABET) ** CHECK_CHARACTERS
    digits = ""
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits

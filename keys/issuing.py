"""How a key gets its secret: the value exists in memory only, for the one answer that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from access import tokens
from access.tokens import TokenKind
from keys.models import GatewayKey, KeyVersion


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A gateway key with the version just made and its value, which is known only now."""

    key: GatewayKey
    version: KeyVersion
    value: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id}, version {self.version.number})"


def issue_version(key: GatewayKey, *, number: int, now: datetime) -> IssuedKey:
    """Write a new current version of `key`; the caller holds the key's lock and has closed the old one."""
    value = tokens.generate(TokenKind.GATEWAY_KEY)
    version = KeyVersion.objects.create(
        key=key, number=number, digest=tokens.digest(value), hint=tokens.hint(value), created_at=now
    )
    return IssuedKey(key, version, value)

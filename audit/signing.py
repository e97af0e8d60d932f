"""Which key signs checkpoints here, and which ones are believed: from the settings, never from the database.

Whoever can rewrite the whole database can rewrite every root in it, but not sign it.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from audit.notes import NoteError, VerifierKey

PURPOSE: Final = b"keeptrusts audit checkpoints"


def signing_key() -> Ed25519PrivateKey:
    """Return the key that checkpoints are signed with: the one that is set, else one derived from the secret key.

    Errors: ImproperlyConfigured where only public keys are set: then this process must not seal.
    """
    if given := settings.KEEPTRUSTS_AUDIT_SIGNING_KEY:
        return read_private(given)
    if settings.KEEPTRUSTS_AUDIT_PUBLIC_KEYS:
        raise ImproperlyConfigured(
            "KEEPTRUSTS_AUDIT_PUBLIC_KEYS is set here and KEEPTRUSTS_AUDIT_SIGNING_KEY is not: this process can verify "
            "the audit log, not seal it. Give the signing key to the workers."
        )
    return derived(settings.SECRET_KEY)


def believed_keys() -> list[VerifierKey]:
    """Return the public keys that a checkpoint may be signed with; the one that signs here first.

    Derived ones count only where no key is set: who holds the web server's secret must not be able to sign, then.
    """
    published = [read_public(text) for text in settings.KEEPTRUSTS_AUDIT_PUBLIC_KEYS]
    if settings.KEEPTRUSTS_AUDIT_SIGNING_KEY:
        return [public_of(signing_key()), *published]
    if published:
        return published
    return [public_of(derived(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def public_keys() -> list[str]:
    """Return the believed keys as they are published: `name+id+base64`, for those who verify elsewhere."""
    name = settings.KEEPTRUSTS_AUDIT_ORIGIN
    return [str(VerifierKey(key.public, key.name or name)) for key in believed_keys()]


def public_of(key: Ed25519PrivateKey) -> VerifierKey:
    """Return the public half of `key`, under any name."""
    return VerifierKey(key.public_key().public_bytes_raw())


@lru_cache(maxsize=8)
def derived(secret: str) -> Ed25519PrivateKey:
    """Return the key that follows from `secret` (HKDF, RFC 5869): the same in every process that knows it."""
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


@lru_cache(maxsize=8)
def read_private(text: str) -> Ed25519PrivateKey:
    """Read a private key as `manage.py audit_key --new` prints it: 32 bytes in base64."""
    try:
        return Ed25519PrivateKey.from_private_bytes(b64decode(text.strip(), validate=True))
    except (Base64Error, ValueError) as error:
        raise ImproperlyConfigured(
            "KEEPTRUSTS_AUDIT_SIGNING_KEY is not a key as `manage.py audit_key --new` prints it: 32 bytes in base64."
        ) from error


def read_public(text: str) -> VerifierKey:
    """Read one of KEEPTRUSTS_AUDIT_PUBLIC_KEYS."""
    try:
        return VerifierKey.parse(text)
    except NoteError as error:
        raise ImproperlyConfigured(f"KEEPTRUSTS_AUDIT_PUBLIC_KEYS: {error}.") from error

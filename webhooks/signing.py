"""Signing secrets of endpoints (Standard Webhooks): made, kept encrypted, and signed with.

A secret must be readable again, or nothing could be signed with it: it is kept under Fernet (AES-128-CBC with
HMAC-SHA256), with a key that HKDF-SHA256 derives from the installation's secret key. Whoever has the database alone
cannot sign.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from standardwebhooks import Webhook

PREFIX: Final = "whsec_"
# Standard Webhooks asks for 24 to 64 bytes.
SECRET_BYTES: Final = 32
HINT_LENGTH: Final = len(PREFIX) + 4
_PURPOSE: Final = b"keeptrusts webhook secrets"


class Unreadable(Exception):
    """The secret was kept under a secret key that this installation does not have."""

    def __init__(self) -> None:
        super().__init__(
            "The signing secret cannot be read: KEEPTRUSTS_SECRET_KEY has changed. Add the old one to "
            "KEEPTRUSTS_SECRET_KEY_FALLBACKS, or rotate the endpoint's secret."
        )


def generate() -> str:
    """Return a new secret, `whsec_…`."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def hint(secret: str) -> str:
    """Return the only part of a secret that is shown again."""
    return f"{secret[:HINT_LENGTH]}…"


def seal(secret: str) -> str:
    """Return `secret` as it may be kept."""
    return _keys().encrypt(secret.encode()).decode()


def open_sealed(sealed: str) -> str:
    """Return what was sealed. Errors: Unreadable."""
    try:
        return _keys().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def sealed_anew(sealed: str) -> str | None:
    """Return `sealed` under the present secret key; None where it is so already, or cannot be read at all."""
    present = Fernet(_derived(settings.SECRET_KEY))
    try:
        present.decrypt(sealed.encode())
    except InvalidToken:
        try:
            return _keys().rotate(sealed.encode()).decode()
        except InvalidToken:
            return None
    return None


def signed_headers(secrets_: Sequence[str], notice_id: str, at: datetime, body: str) -> dict[str, str]:
    """Return the three headers of Standard Webhooks: one signature for each secret. at: of the attempt, in UTC."""
    signatures = " ".join(Webhook(secret).sign(notice_id, at, body) for secret in secrets_)
    return {
        "webhook-id": notice_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signatures,
    }


def _keys() -> MultiFernet:
    return MultiFernet([Fernet(_derived(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _derived(secret_key: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
    return base64.urlsafe_b64encode(derived)

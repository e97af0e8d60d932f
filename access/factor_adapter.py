"""What django-allauth asks us about second factors: how their secrets are kept, and whose they are."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Final

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from access.models import Member

SITE: Final = "Keeptrusts"


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth brings no types
    """Keeps secrets encrypted: the key is made of KEEPTRUSTS_SECRET_KEY, which a stolen database does not hold."""

    def encrypt(self, text: str) -> str:
        return _box().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the secret. Errors: InvalidToken where the secret key is another one, and no fallback is the old."""
        return _box().decrypt(encrypted_text.encode()).decode()

    def get_totp_label(self, user: Member) -> str:
        return user.username

    def build_totp_svg(self, url: str) -> str:
        """Return the picture as an element of a page, without what only stands at the beginning of a file."""
        picture: str = super().build_totp_svg(url)
        return picture[picture.index("<svg") :]

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return us as a relying party: the name in the address, which the allowed hosts have let pass."""
        return {"id": context.request.get_host().partition(":")[0], "name": SITE}

    def get_public_key_credential_user_entity(self, user: Member) -> dict[str, str | bytes]:
        entity: dict[str, str | bytes] = super().get_public_key_credential_user_entity(user)
        return entity | {"name": user.username, "display_name": user.get_full_name()}


def seal(text: str) -> str:
    """Return `text` so that a page may carry it to and fro: nobody but us reads it or makes one."""
    return _box().encrypt(text.encode()).decode()


def unseal(sealed: str, *, seconds: int) -> str | None:
    """Return what was sealed no longer than that ago; None for anything else."""
    try:
        return _box().decrypt(sealed.encode(), ttl=seconds).decode()
    except (InvalidToken, UnicodeError):
        return None


def _box() -> MultiFernet:
    return _box_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _box_of(secrets: tuple[str, ...]) -> MultiFernet:
    keys = [hashlib.sha256(b"keeptrusts second factors\0" + secret.encode()).digest() for secret in secrets]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

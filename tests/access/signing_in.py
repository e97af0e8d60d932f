"""How tests sign in by more than a password: the codes of an authenticator app, and a browser's forms."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

from access.actors import member_actor
from access.models import Member
from access.second_factors import PERIOD, add_totp, make_recovery_codes, totp_secret
from audit import clock
from tests.factories import PASSWORD

LOGIN = "/admin/login/"
SECOND = "/admin/login/second-factor/"


def code_of(secret: str, *, ahead: int = 0) -> str:
    """Return what the app that holds `secret` shows now, or `ahead` periods later."""
    return str(format_hotp_value(hotp_value(secret, int(clock.now().timestamp()) // PERIOD + ahead)))


def give_totp(member: Member) -> str:
    """Give the member an authenticator app and return its secret. The code of this moment is used up with it."""
    secret: str = totp_secret()
    actor = member_actor(member, credential="tests")
    add_totp(actor=actor, member_id=member.pk, secret=secret, code=code_of(secret))
    return secret


def give_recovery_codes(member: Member) -> list[str]:
    return make_recovery_codes(actor=member_actor(member, credential="tests"), member_id=member.pk)


def type_password(client: Client, member: Member, *, next_url: str = "") -> Any:
    query = f"?next={next_url}" if next_url else ""
    return client.post(f"{LOGIN}{query}", {"username": member.username, "password": PASSWORD})


def sealed_of(response: Any) -> tuple[str, str]:
    """Return the sealed secret that the page of a new authenticator app carries, and the secret itself."""
    page = response.content.decode()
    sealed = re.search(r'name="sealed" value="([^"]+)"', page)
    secret = re.search(r'<code class="kt-mono kt-wrap"[^>]*>([^<]+)</code>', page)
    assert sealed
    assert secret
    return unescape(sealed[1]), secret[1].replace(" ", "")

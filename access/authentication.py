"""Who calls the management API: the holder of an access key, or a member signed in to the console."""

from __future__ import annotations

from typing import Final

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from access.access_keys import find_usable
from access.limits import limits_of
from access.models import AccessKey, Member
from access.throttles import count_stranger

CHALLENGE: Final = 'Bearer realm="keeptrusts"'


class AccessKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer kt_ak_…` (RFC 6750). Without such a header somebody else may know the caller."""

    def authenticate(self, request: Request) -> tuple[Member, AccessKey] | None:
        value = _bearer(request)
        if value is None:
            return None
        access_key = find_usable(value)
        if access_key is None:
            count_stranger(request)
            raise AuthenticationFailed("This is no access key that may be used now.", code="invalid_token")
        access_key.owner.limits = limits_of(access_key)
        return access_key.owner, access_key

    def authenticate_header(self, request: Request) -> str:
        # RFC 6750 §3.1: who brought no credential is told no error.
        return CHALLENGE if _bearer(request) is None else f'{CHALLENGE}, error="invalid_token"'


class ConsoleSessionAuthentication(SessionAuthentication):
    """The console's session; changing anything with it needs the CSRF token."""

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            # They get no further, and DRF counts only who does.
            count_stranger(request)
            raise


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None

"""How many requests a second one caller may make."""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from django.http import HttpRequest
from redis import RedisError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from access.actors import client_ip

# While rest_framework.views is being made, it asks for this module.
if TYPE_CHECKING:
    from rest_framework.views import APIView

log = logging.getLogger(__name__)


class _Throttle(SimpleRateThrottle):
    def allow_request(self, request: Request, view: APIView | None) -> bool:
        try:
            return super().allow_request(request, cast("APIView", view))
        except (RedisError, OSError):
            # Throttling keeps order among callers and guards nothing: without its store everybody goes on.
            log.warning("Requests are not throttled: the cache does not answer.", exc_info=True)
            return True

    def _cache_key(self, ident: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": ident}


class AccessKeyThrottle(_Throttle):
    """Counts for each access key, and for each member in the console."""

    scope = "access_key"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        if not request.user.is_authenticated:
            return None
        return self._cache_key(request.auth.pk if request.auth else f"member-{request.user.pk}")


class AddressThrottle(_Throttle):
    """Counts for each address, for callers without a credential alone."""

    scope = "address"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        return None if request.user.is_authenticated else self._cache_key(client_ip(request))


class _StrangerThrottle(AddressThrottle):
    """The same count, while it is not known yet who the caller is."""

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        return self._cache_key(client_ip(request))


class _GuessThrottle(_Throttle):
    """Counts for each address that opens an invitation link, whoever they are."""

    scope = "invitation"
    rate = "30/min"

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        return self._cache_key(client_ip(request))


def may_guess(request: HttpRequest) -> bool:
    """Count one look at an invitation link from this address; say whether that was not too often."""
    return _GuessThrottle().allow_request(cast("Request", request), None)


def count_stranger(request: Request) -> None:
    """Count a caller who brought no credential, or none that may be used. Errors: Throttled."""
    throttle = _StrangerThrottle()
    if not throttle.allow_request(request, None):
        raise Throttled(throttle.wait())


class _NameThrottle(_Throttle):
    """Counts password sign-ins for each name, from wherever they come (NIST SP 800-63B §3.2.2: at most 100)."""

    scope = "sign_in_name"
    rate = "100/hour"

    def __init__(self, name: str) -> None:
        super().__init__()
        # A digest: what was typed may be a password.
        self.name = sha256(name.encode(errors="replace")).hexdigest()

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        return self._cache_key(self.name)


class _CodeThrottle(_NameThrottle):
    """Counts second factors that are tried for each member: of a million codes three are right at any time."""

    scope = "sign_in_code"
    rate = "30/hour"


class _SignInThrottle(_GuessThrottle):
    """Counts sign-ins for each address, whatever the names."""

    scope = "sign_in_address"
    rate = "60/min"


def may_sign_in(request: HttpRequest) -> bool:
    """Count an attempt to sign in from this address; say whether there were not too many."""
    return _SignInThrottle().allow_request(cast("Request", request), None)


def may_try_name(request: HttpRequest, name: str) -> bool:
    """Count an attempt to sign in with this name; say whether there were not too many, of its kind or its address."""
    by_address = may_sign_in(request)
    return _NameThrottle(name).allow_request(cast("Request", request), None) and by_address


def may_try_code(name: str) -> bool:
    """Count a second factor that is tried for this member; say whether there were not too many."""
    return _CodeThrottle(name).allow_request(cast("Request", None), None)

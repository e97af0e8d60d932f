"""How many requests one caller may make in a second, and what each answer says of it.

Requests are counted in windows of the clock, in the cache, each by one increment: exact among threads, and with Redis
among processes and hosts. Every answer carries `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers-10), put there by access/middleware.py.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpRequest, HttpResponseBase
from redis import RedisError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from access.actors import client_ip

# While rest_framework.views is being made, it asks for this module.
if TYPE_CHECKING:
    from rest_framework.views import APIView

log = logging.getLogger(__name__)
# Under which name a request carries where its caller stands.
STANDING: Final = "rate_standing"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands. limit: requests in a window of `seconds`; reset: seconds until the next one begins."""

    policy: str
    limit: int
    seconds: int
    remaining: int
    reset: float

    def write(self, response: HttpResponseBase) -> None:
        """Say it in the answer's headers."""
        response["RateLimit-Policy"] = f'"{self.policy}";q={self.limit};w={self.seconds}'
        response["RateLimit"] = f'"{self.policy}";r={self.remaining};t={math.ceil(self.reset)}'


def standing_of(request: HttpRequest) -> Standing | None:
    """Return where the caller stands after this request; None where it was not counted."""
    standing = getattr(request, STANDING, None)
    return standing if isinstance(standing, Standing) else None


class _Throttle(SimpleRateThrottle):
    """Counts in windows of the clock. Without its store everybody goes on: it keeps order, and guards nothing."""

    reset = 1.0
    # As the base class has read them from the rate.
    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: APIView | None) -> bool:
        key = self.get_cache_key(request, view) if self.rate is not None else None  # type: ignore[arg-type]  # unused
        if key is None:
            return True
        limit, seconds, now = self.num_requests or 0, self.duration or 1, self.timer()
        window = int(now // seconds)
        self.reset = (window + 1) * seconds - now
        try:
            count = self._count(f"{key}_{window}", seconds)
        except (RedisError, OSError):
            log.warning("Requests are not throttled: the cache does not answer.", exc_info=True)
            return True
        standing = Standing(str(self.scope), limit, seconds, max(0, limit - count), self.reset)
        # On Django's request, which the middleware has.
        setattr(getattr(request, "_request", request), STANDING, standing)
        return count <= limit

    def wait(self) -> float:
        return self.reset

    def _count(self, key: str, seconds: int) -> int:
        self.cache.add(key, 0, timeout=seconds + 1)
        try:
            return int(self.cache.incr(key))
        except ValueError:
            # The cache has dropped it between both: the window begins anew.
            return 1

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
    return _GuessThrottle().allow_request(request, None)  # type: ignore[arg-type]  # Django's own will do


def count_stranger(request: Request | HttpRequest) -> None:
    """Count a caller who brought no credential, or none that may be used. Errors: Throttled."""
    throttle = _StrangerThrottle()
    if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # Django's own will do
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
    return _SignInThrottle().allow_request(request, None)  # type: ignore[arg-type]  # Django's own will do


def may_try_name(request: HttpRequest, name: str) -> bool:
    """Count an attempt to sign in with this name; say whether there were not too many, of its kind or its address."""
    by_address = may_sign_in(request)
    by_name = _NameThrottle(name).allow_request(request, None)  # type: ignore[arg-type]  # Django's own will do
    return by_address and by_name


def may_try_passkey(request: HttpRequest, name: str) -> bool:
    """Count a passkey that is shown; say whether there were not too many from its address. It cannot be guessed."""
    return may_sign_in(request)


def may_try_code(request: HttpRequest, name: str) -> bool:
    """Count a second factor that is tried for this member; say whether there were not too many."""
    return _CodeThrottle(name).allow_request(request, None)  # type: ignore[arg-type]  # Django's own will do

"""Who is behind a request, as an explicit argument for the verbs."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.http import HttpRequest

from audit.actor import Actor, ActorKind

if TYPE_CHECKING:
    from access.models import AccessKey, Member


def request_actor(request: HttpRequest) -> Actor:
    """Return the actor of a request of the console or the API; anonymous where nobody is signed in."""
    member = request.user
    if not member.is_authenticated:
        return Actor.anonymous(label="anonymous", ip=client_ip(request))
    access_key: AccessKey | None = getattr(request, "auth", None)
    credential = f"access key {access_key.name} ({access_key.hint})" if access_key else "session"
    return member_actor(member, credential=credential, ip=client_ip(request), request_id=request_id(request))


def caller(request: HttpRequest) -> Member:
    """Return the member who calls, where the permissions have let nobody else in."""
    return cast("Member", request.user)


def member_actor(member: Member, *, credential: str, ip: str | None = None, request_id: str = "") -> Actor:
    """Return `member` as an actor."""
    return Actor(
        kind=ActorKind.MEMBER,
        id=str(member.pk),
        label=member.username,
        credential=credential,
        ip=ip,
        request_id=request_id,
        authority=member,
    )


def request_id(request: HttpRequest) -> str:
    """Return the id under which the server's log has this request; "" where no server is (a test, a command)."""
    return str(getattr(request, "scope", {}).get("keeptrusts.request_id", ""))


def client_ip(request: HttpRequest) -> str | None:
    """Return the address of the caller as far as it can be trusted; None where it is none (a socket, a test).

    With N trusted proxies the Nth address from the right of X-Forwarded-For is the caller's; what stands left of it
    the caller could have written, and without proxies the whole header is the caller's claim.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        if len(hops) >= settings.TRUSTED_PROXIES and hops[-settings.TRUSTED_PROXIES]:
            address = hops[-settings.TRUSTED_PROXIES]
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    # A zone means something on one host alone, and may be any text at all: no database keeps it as an address.
    return None if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None else str(found)

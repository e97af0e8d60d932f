"""Where notices may be posted to: public addresses alone, so that nobody reaches through us what only we can reach.

An address that a person has chosen is looked up once; every address of the name must be allowed, and the connection
goes to one of exactly these. What is allowed beyond public ones, KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS says.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from webhooks.models import LONGEST_URL

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Resolver = Callable[[str, int], list[str]]

# Seconds in which a name is looked up.
LOOK_UP: Final = 2.0
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Beyond what `is_global` knows: where IPv4 hides in another form, what carries none, and what clouds answer at to their
# own machines alone.
NEVER_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments, Oracle's metadata among them
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's host
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
# Global unicast. IPv4-mapped, IPv4-compatible, NAT64, unique local, link-local and multicast all lie outside.
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# What resolvers take for a number, and so for an IPv4 address: 127.1, 0x7f.0.0.1, 2130706433 (WHATWG URL, "ends in a
# number").
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_DOTTED: Final = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")


class Refused(Exception):
    """Nothing may be sent there. code: for machines; the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """An address, taken apart. host: a name or an address, without brackets; path: with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> Target:
    """Return the parts of `url`. Errors: Refused for what is no plain address of an https server."""
    if len(url) > LONGEST_URL:
        raise Refused("max_length", f"At most {LONGEST_URL} characters.")
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise Refused("invalid", "Only visible ASCII characters. Write other names in their xn-- form.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("invalid", "This is no address such as https://hooks.example.com/keys.") from None
    _check_scheme(parts)
    if "@" in parts.netloc:
        raise Refused("userinfo", "No user and password in the address: it is shown to every Admin.")
    if parts.fragment or url.endswith("#"):
        raise Refused("invalid", "No #fragment: it is never sent.")
    if port == 0 or parts.netloc.endswith(":"):
        raise Refused("invalid", "This is no port.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _host(parts), port or DEFAULT_PORTS[parts.scheme], path)


def look_up(target: Target, *, resolver: Resolver | None = None, seconds: float = LOOK_UP) -> list[str]:
    """Return the addresses of `target`, all of them allowed. Errors: Refused, also where there is none."""
    if (literal := _literal(target.host)) is not None:
        found = [str(literal)]
    elif target.host == "localhost" or target.host.endswith(".localhost"):
        found = ["127.0.0.1"]  # RFC 6761 §6.3: the loopback, whatever a resolver says
    else:
        found = _in_time(resolver or resolve, target, seconds)
    for address in found:
        if not is_allowed(address):
            hint = "" if literal is not None else f" ({target.host})"
            raise Refused(
                "address_not_allowed",
                f"{address}{hint} is not a public address. An operator can allow its network with "
                "KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS.",
            )
    return found


def check(url: str, *, resolver: Resolver | None = None) -> None:
    """Return if a notice may be posted to `url` as things are now. Errors: Refused."""
    look_up(parse(url), resolver=resolver)


def is_allowed(text: str) -> bool:
    """Say whether a connection to this address may be made; not to what cannot be read as one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return False
    networks = settings.KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS
    return _is_public(address) or any(address in network for network in networks)


def resolve(host: str, port: int) -> list[str]:
    """Return every address of a name, as the system's resolver gives them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in found))


def _is_public(address: Address) -> bool:
    if any(address in network for network in NEVER_PUBLIC) or not address.is_global:
        return False
    if address.is_multicast or address.is_reserved or address.is_loopback or address.is_link_local:
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in GLOBAL_UNICAST


def _check_scheme(parts: SplitResult) -> None:
    if parts.scheme == "https" or (parts.scheme == "http" and settings.KEEPTRUSTS_WEBHOOK_ALLOW_HTTP):
        return
    if parts.scheme == "http":
        raise Refused("scheme", "Only https, unless KEEPTRUSTS_WEBHOOK_ALLOW_HTTP is set.")
    raise Refused("scheme", "This is no address that begins with https://.")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if _literal(host) is not None:
        return host
    if _NUMBER.fullmatch(host):
        raise Refused("invalid_host", "Write an IPv4 address as four decimal numbers: 192.0.2.1.")
    if "[" in parts.netloc or len(host) > 253 or not _NAME.fullmatch(host):
        raise Refused("invalid_host", "This is no host: neither a name nor an address.")
    return host


def _literal(host: str) -> Address | None:
    """Return the address that `host` writes out; None for a name, and for IPv4 in any form but four numbers."""
    if ":" not in host and not _DOTTED.fullmatch(host):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_time(resolver: Resolver, target: Target, seconds: float) -> list[str]:
    """Look up a name, for so long at most: the system's resolver knows no deadline, so a thread asks it."""
    answer: list[list[str]] = []

    def ask() -> None:
        try:
            answer.append(resolver(target.host, target.port))
        except (OSError, UnicodeError):
            answer.append([])

    asking = threading.Thread(target=ask, name=f"look up {target.host}", daemon=True)
    asking.start()
    asking.join(seconds)
    if not answer:
        raise Refused("unresolvable", f"{target.host} could not be looked up within {seconds:.0f} s.")
    if not answer[0]:
        raise Refused("unresolvable", f"{target.host} has no address.")
    return answer[0]

"""Networks in CIDR notation, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from django.core.exceptions import ValidationError

MOST_NETWORKS = 100


def clean_networks(networks: Iterable[str], *, field: str = "allowed_networks") -> list[str]:
    """Return each network once, in canonical form and in the order given; an address becomes a network of one.

    Errors: ValidationError at `field`, naming what is no network or has host bits set.
    """
    cleaned: dict[str, None] = {}
    for network in networks:
        text = network.strip()
        try:
            # A zone (fe80::%eth0) means something on one host alone, and may be any text at all.
            cleaned[str(ipaddress.ip_network("" if "%" in text else text))] = None
        except ValueError as error:
            message = f"“{text[:60]}” is not a network such as 10.0.0.0/8 or 2001:db8::/32"
            message += ": it has host bits set." if "host bits" in str(error) else "."
            raise ValidationError({field: ValidationError(message, code="invalid_network")}) from error
    if len(cleaned) > MOST_NETWORKS:
        raise ValidationError({field: ValidationError(f"At most {MOST_NETWORKS} networks.", code="too_many")})
    return list(cleaned)


type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def outside(networks: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """Return those of `networks` that do not lie whole in one of `allowed`; none where that is empty: anywhere."""
    around = _parsed(allowed)
    return [network for network in networks if around and not _lies_in(_network(network), around)]


def narrowed_to(networks: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """Return the part of `networks` that lies in `allowed`, which names some; [] where no part of them does."""
    around, parts = _parsed(allowed), dict[str, None]()
    for network in map(_network, networks):
        for part in around:
            if _lies_in(network, (part,)):
                parts[str(network)] = None
            elif _lies_in(part, (network,)):
                parts[str(part)] = None
    return list(parts)


def accepted_address(*lists: Iterable[str]) -> str:
    """Return an address that is in a network of each list, an empty one allowing every address; "" for any at all.

    Also where there is none, and nothing is accepted.
    """
    within: list[ipaddress.IPv4Network | ipaddress.IPv6Network] | None = None
    for networks in map(list, lists):
        allowed = [ipaddress.ip_network(network) for network in networks]
        if within is None:
            within = allowed or None
        elif allowed:
            pairs = ((one, other) for one in within for other in allowed)
            within = [max(pair, key=lambda n: n.prefixlen) for pair in pairs if pair[0].overlaps(pair[1])]
    return str(within[0].network_address) if within else ""


@lru_cache(maxsize=4_096)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def _parsed(networks: Iterable[str]) -> tuple[Network, ...]:
    return tuple(map(_network, networks))


def _lies_in(network: Network, around: Iterable[Network]) -> bool:
    return any(
        network.version == other.version and other.prefixlen <= network.prefixlen and network.network_address in other
        for other in around
    )

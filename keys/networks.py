"""Networks in CIDR notation, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

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

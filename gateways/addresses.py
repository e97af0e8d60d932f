"""Addresses of clients as gateways state them, and the networks that they are held against."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network
type Networks = tuple[Network, ...]

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def parse_address(text: str | None) -> Address | None:
    """Return the address, an IPv4-mapped one as IPv4; None for anything else: a port, brackets, a zone, no text."""
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:  # means something on the gateway's host alone
            return None
        return address.ipv4_mapped or address
    return address


def parse_networks(texts: Iterable[str]) -> Networks:
    """Return the networks, IPv4-mapped ones as IPv4 like the addresses. Errors: ValueError for what is none."""
    return tuple(_unmapped(ip_network(text)) for text in texts)


def admits(networks: Networks, address: Address | None) -> bool:
    """Say whether traffic from `address` may pass; without networks any may, without a trusted address none."""
    if not networks:
        return True
    return address is not None and any(address in network for network in networks)


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((low, network.prefixlen - 96))
    return network

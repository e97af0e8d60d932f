"""Whose address stands in the audit log: what a client could have written itself is never taken."""

from __future__ import annotations

import pytest
from django.test import RequestFactory, override_settings

from access.actors import client_ip

PROXY = "10.0.0.1"


def address(forwarded: str | None, *, remote: str = PROXY) -> str | None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return client_ip(RequestFactory(headers=headers).get("/", REMOTE_ADDR=remote))


def test_without_a_trusted_proxy_the_header_is_a_claim_and_not_taken() -> None:
    assert address("203.0.113.9") == PROXY


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "2001:db8::9,10.0.0.2", "2001:db8::9"),
        (2, "203.0.113.9", PROXY),
        (1, None, PROXY),
        (1, "", PROXY),
    ],
)
def test_with_n_trusted_proxies_the_nth_address_from_the_right_counts(
    proxies: int, forwarded: str | None, expected: str
) -> None:
    with override_settings(TRUSTED_PROXIES=proxies):
        assert address(forwarded) == expected


@pytest.mark.parametrize("remote", ["", "unix:", "203.0.113.9:80", "fe80::1%eth0", "::1%" + "x" * 500])
def test_what_is_no_address_that_a_database_keeps_is_none(remote: str) -> None:
    assert address(None, remote=remote) is None

"""Where nothing is ever sent to, however it is written."""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final

import pytest

from webhooks import addresses
from webhooks.addresses import Refused, Resolver, check, look_up, parse
from webhooks.posting import post

pytestmark = pytest.mark.once

HOSTILE: Final = [
    # loopback
    "https://127.0.0.1/",
    "https://127.8.9.1/",
    "https://localhost/",
    "https://LOCALHOST:8000/",
    "https://x.localhost/",
    "https://localhost./",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://0.0.0.0/",
    "https://0/",
    "https://[::]/",
    # other ways to write 127.0.0.1 or a private address
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.1./",
    "https://127.0.0.01/",
    "https://010.0.0.1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://%31%32%37.0.0.1/",
    # private, link-local, shared, reserved
    "https://10.0.0.1/",
    "https://172.16.3.4/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.7/",
    "https://203.0.113.9/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[100::1]/",
    # IPv4 inside IPv6
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::1]/",
    "https://[2001:0:53aa:64c::80ff:fffe]/",
    # what is no plain address of an https server
    "http://169.254.169.254/",
    "http://[::ffff:127.0.0.1]/",
    "http://8.8.8.8/",
    "https://user:password@8.8.8.8/",
    "https://8.8.8.8@127.0.0.1/",
    "https://127.0.0.1#@8.8.8.8/",
    "https://8.8.8.8\\@127.0.0.1/",
    "https://8.8.8.8:0/",
    "https://8.8.8.8:65536/",
    "https://8.8.8.8:/",
    "https://8.8.8.8/#fragment",
    "https:///path",
    "https://",
    "//8.8.8.8/",
    "8.8.8.8",
    "",
    "ftp://8.8.8.8/",
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "javascript:alert(1)",
    "https://8.8.8.8/ with space",
    "https://8.8.8.8/\r\nX-Header: x",
    "https://exa mple.com/",
    "https://-x-.com/",
    "https://a..b/",
    "https://[::1/",
    "https://[v1.x]/",
    "https://" + "a" * 64 + ".com/",
    "https://8.8.8.8/" + "x" * 600,
]


def nobody(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


def test_there_are_many_hostile_addresses() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_when_it_is_saved_and_when_it_is_posted_to(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "resolve", nobody)
    with pytest.raises(Refused):
        check(url)
    answer = post(url, "{}", {}, resolver=nobody)
    assert answer.status is None
    assert answer.error


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "64:ff9b::a00:1",
        "nonsense",
    ],
)
def test_a_name_is_refused_for_what_it_resolves_to(address: str) -> None:
    with pytest.raises(Refused) as refused:
        look_up(parse("https://hooks.example.com/"), resolver=lambda host, port: [address])
    assert refused.value.code == "address_not_allowed"


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(Refused):
        look_up(parse("https://hooks.example.com/"), resolver=lambda host, port: ["8.8.8.8", "10.0.0.1"])


def test_a_name_without_an_address_is_refused() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    resolvers: tuple[Resolver, ...] = (fails, lambda host, port: [])
    for resolver in resolvers:
        with pytest.raises(Refused) as refused:
            look_up(parse("https://hooks.example.com/"), resolver=resolver)
        assert refused.value.code == "unresolvable"


def test_nobody_waits_for_a_resolver_that_does_not_answer() -> None:
    def silent(host: str, port: int) -> list[str]:
        time.sleep(3)
        return []

    started = time.monotonic()
    with pytest.raises(Refused) as refused:
        look_up(parse("https://hooks.example.com/"), resolver=silent, seconds=0.2)
    assert refused.value.code == "unresolvable"
    assert time.monotonic() - started < 1


def test_a_name_that_resolves_differently_the_second_time_is_asked_once(loopback: None, settings: Any) -> None:
    """DNS rebinding: the connection goes to the address that was checked, and nobody asks again."""
    settings.KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.7/32")]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.7"] if len(asked) == 1 else ["127.0.0.1"]

    # Nobody listens at 127.0.0.7; at 127.0.0.1 somebody would.
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = post(f"http://hooks.example.com:{port}/", "{}", {}, resolver=rebinding)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert asked == ["hooks.example.com"]
    assert "The connection failed" in answer.error
    # And the next time, it is refused.
    assert "not a public address" in post(f"http://hooks.example.com:{port}/", "{}", {}, resolver=rebinding).error


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://hooks.example.com", "hooks.example.com", "/"),
        ("https://hooks.example.com:443/a?b=c", "hooks.example.com", "/a?b=c"),
        ("https://HOOKS.example.com:8443/a%20b", "hooks.example.com:8443", "/a%20b"),
        ("https://8.8.8.8:1/", "8.8.8.8:1", "/"),
        ("https://[2606:4700::1111]/x", "[2606:4700::1111]", "/x"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
        ("https://10.example.com/", "10.example.com", "/"),
    ],
)
def test_a_plain_address_is_taken(url: str, authority: str, path: str) -> None:
    target = parse(url)
    assert (target.authority, target.path) == (authority, path)
    assert look_up(target, resolver=lambda host, port: ["8.8.8.8"])


def test_an_operator_can_allow_a_network(settings: Any) -> None:
    settings.KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("10.1.0.0/16")]
    check("https://10.1.2.3/")
    for other in ("https://10.2.0.1/", "https://[::ffff:10.1.2.3]/", "https://127.0.0.1/"):
        with pytest.raises(Refused):
            check(other)


def test_plain_http_is_an_operators_to_allow(settings: Any) -> None:
    with pytest.raises(Refused):
        parse("http://8.8.8.8/")
    settings.KEEPTRUSTS_WEBHOOK_ALLOW_HTTP = True
    assert parse("http://8.8.8.8/").port == 80

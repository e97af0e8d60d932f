"""What reaches the application through each gateway: the request as it was, who it is, and nothing of the key."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Iterator

import pytest

from tests.gateways.real.conftest import Real, each_gateway
from tests.gateways.real.console import Console
from tests.gateways.real.gateways import Gateway
from tests.gateways.real.servers import Application, Seen
from tests.processes import eventually

FORGED = "forged by the client"
IDENTITY = (
    "X-Keeptrusts-Key-Id",
    "X-Keeptrusts-Key-Version",
    "X-Keeptrusts-Consumer-Group",
    "X-Keeptrusts-Decision-Id",
)
# Ways to write the same name, for whoever reads it on the other side.
SPELLINGS = (str, str.lower, str.upper, lambda name: name.replace("-", "_"), lambda name: name.replace("s-", "s_"))


def asked_with_forged_headers(gateway: Gateway, target: str, value: str, spelling: int) -> int:
    headers = {
        SPELLINGS[spelling](name): FORGED
        for name in (*IDENTITY, "X-Keeptrusts-Client-IP", "X-Keeptrusts-Gateway-Token", "X-Keeptrusts-Reason")
    }
    return gateway.ask(target, value, headers=headers).status


@each_gateway()
@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
def test_identity_headers_are_the_consoles_whatever_a_client_sends(
    name: str, spelling: int, real: Real, keys: dict[str, str], application: Application
) -> None:
    gateway, target = real(name), f"/forged/{secrets.token_hex(8)}"
    assert asked_with_forged_headers(gateway, target, keys["search"], spelling) == 200
    seen = application.last(target)
    assert seen
    assert seen.all("X-Keeptrusts-Consumer-Group") == ["search"]
    assert seen.all("X-Keeptrusts-Key-Version") == ["1"]
    for header in IDENTITY:
        assert len(seen.all(header)) == 1
    assert FORGED not in str(seen.headers)


@each_gateway()
@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
def test_a_client_cannot_state_group_or_address_itself(
    name: str, spelling: int, real: Real, keys: dict[str, str]
) -> None:
    gateway, write = real(name), SPELLINGS[spelling]
    there = {write("X-Keeptrusts-Client-IP"): "192.0.2.1", "X-Forwarded-For": "192.0.2.1"}
    assert gateway.ask("/v1", keys["elsewhere"], headers=there).status == 403
    group = {write("X-Keeptrusts-Consumer-Group"): "checkout"}
    assert gateway.ask("/search/v1", keys["checkout"], headers=group).status == 403


@each_gateway()
def test_a_query_string_and_the_path_survive_as_they_were(
    name: str, real: Real, keys: dict[str, str], application: Application
) -> None:
    target = (
        f"/v1/a%20b/%C3%A9;x=1?number={secrets.token_hex(8)}&q=a+b%26c&empty=&q=%2F..%2F&uri=https://example.com/?x"
    )
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert real(name).ask(target, keys["good"], method=method).status == 200
        seen = application.last(target)
        assert seen
        assert seen.method == method
    assert real(name).ask(target, method="OPTIONS").status == 401
    # Ours is not theirs: what is asked for in a query decides nothing.
    assert real(name).ask("/v1?caddy=1&authorize=yes").status == 401


@each_gateway()
def test_the_key_reaches_neither_the_application_nor_a_log(
    name: str, real: Real, keys: dict[str, str], application: Application, console: Console
) -> None:
    gateway, number, other = real(name), secrets.token_hex(8), secrets.token_hex(16)
    for key in ("good", "unknown", "revoked", "checkout"):
        for target in (f"/v1/{number}", f"/search/{number}", f"/answer/500/{number}"):
            gateway.ask(target, keys[key], headers={"X-Api-Key": other})
    gateway.ask(f"/v1/{number}?api_key={keys['good']}", keys["good"])
    for asks in ("nobody", "console, for nothing"):
        real(name, asks).ask(f"/v1/{number}", keys["good"])
    assert eventually(lambda: gateway.log.read_bytes().count(number.encode()) == 13)
    reached = [seen for seen in application.seen if number in seen.target]
    assert len(reached) >= 4
    assert all(not seen.all("Authorization") for seen in reached)
    assert console.web
    written = gateway.process.output + console.web.output
    for asks in ("console", "nobody", "console, for nothing"):
        written += "".join(path.read_text(errors="replace") for path in real(name, asks).folder.rglob("*.log"))
    assert number in written
    assert other not in written
    for key in ("good", "unknown", "revoked", "checkout"):
        assert keys[key][10:] not in written
        assert all(keys[key] not in str(seen.headers) for seen in reached)


@pytest.fixture
def asking(name: str, real: Real) -> Iterator[http.client.HTTPConnection]:
    with real(name).connect() as connection:
        yield connection


@each_gateway()
def test_a_body_reaches_the_application_piece_by_piece(
    asking: http.client.HTTPConnection, keys: dict[str, str], application: Application
) -> None:
    pieces = [secrets.token_bytes(size) for size in (10, 100_000, 1)]
    asking.putrequest("POST", "/upload")
    asking.putheader("Authorization", f"Bearer {keys['good']}")
    asking.putheader("Transfer-Encoding", "chunked")
    asking.endheaders()
    for piece in pieces:
        asking.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        # It is there before the next one is sent: nobody on the way waits for the end.
        assert received(application, len(piece)) == piece
    asking.send(b"0\r\n\r\n")
    assert application.uploaded.get(timeout=30) is None
    answer = asking.getresponse()
    assert (answer.status, json.load(answer)["body"]) == (200, 100_011)


def received(application: Application, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = application.uploaded.get(timeout=30)
        assert piece is not None
        got += piece
    return got


@each_gateway()
def test_a_large_body_is_passed_on_and_a_refused_one_is_not(
    name: str, real: Real, keys: dict[str, str], application: Application
) -> None:
    target, body = f"/v1/{secrets.token_hex(8)}", bytes(3_000_000)
    assert real(name).ask(target, keys["good"], method="POST", body=body).status == 200
    seen = application.last(target)
    assert seen == Seen("POST", target, seen.headers if seen else [], body)
    # Of a refused request the body may not even be read: the answer comes first.
    refused = real(name).ask(f"{target}/refused", keys["revoked"], method="POST", body=b"x" * 1_000)
    assert refused.status == 401
    assert application.last(f"{target}/refused") is None


@each_gateway()
def test_an_answer_reaches_the_client_piece_by_piece(
    asking: http.client.HTTPConnection, keys: dict[str, str], application: Application
) -> None:
    asking.request("GET", "/pieces", headers={"Authorization": f"Bearer {keys['good']}"})
    pieces = [b"data: first\n\n", b"data: " + b"x" * 50_000 + b"\n\n", b"data: [DONE]\n\n"]
    application.pieces.put(pieces[0])
    answer = asking.getresponse()
    assert answer.status == 200
    for number, piece in enumerate(pieces):
        # Sent only when the one before has come: nobody on the way waits for more.
        if number:
            application.pieces.put(piece)
        assert answer.read(len(piece)) == piece
    application.pieces.put(None)
    assert answer.read() == b""

"""The decision alone: every reason, the order of the checks, and their edges."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest

from gateways.addresses import parse_networks
from gateways.decision import (
    KnownGateway,
    KnownGroup,
    KnownKey,
    KnownVersion,
    Question,
    Reason,
    decide,
    status_of,
)

pytestmark = pytest.mark.once

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
TOKEN, DIGEST = b"t" * 32, b"d" * 32

PAYMENTS = KnownGroup(id=1, slug="payments", networks=())
GATEWAY = KnownGateway(
    id=uuid.uuid4(),
    counts_at_authorize=True,
    require_group=False,
    address_forwarded=False,
    group_slugs=frozenset(),
    token_valid_until=None,
)
KEY = KnownKey(
    public_id=str(uuid.uuid4()).encode(), group=None, networks=(), expires_at=None, disabled_at=None, revoked_at=None
)
VERSION = KnownVersion(id=7, number=1, created_at=NOW - timedelta(days=1), valid_until=None, key=KEY)
QUESTION = Question(TOKEN, DIGEST)


def reason(
    *, question: dict[str, Any] | None = None, gateway: dict[str, Any] | None = None, **version_or_key: Any
) -> Reason | None:
    """Decide about the plainest of keys with some facts changed."""
    of_version = {name: version_or_key.pop(name) for name in ("valid_until",) if name in version_or_key}
    version = replace(VERSION, key=replace(KEY, **version_or_key), **of_version)
    return decide(replace(QUESTION, **question or {}), replace(GATEWAY, **gateway or {}), version, NOW).reason


def test_a_plain_key_is_allowed() -> None:
    decision = decide(QUESTION, GATEWAY, VERSION, NOW)
    assert (decision.allowed, decision.status, decision.reason) == (True, 200, None)
    assert (decision.gateway, decision.version, decision.at) == (GATEWAY, VERSION, NOW)


# What alone brings about each reason, in the order of design §8; and its status.
CAUSES: dict[Reason, tuple[int, dict[str, Any]]] = {
    Reason.GATEWAY_UNKNOWN: (403, {"gateway": {"token_valid_until": NOW}}),
    Reason.KEY_MISSING: (401, {"question": {"key": Reason.KEY_MISSING}}),
    Reason.KEY_MALFORMED: (401, {"question": {"key": Reason.KEY_MALFORMED}}),
    Reason.KEY_REVOKED: (401, {"revoked_at": NOW}),
    Reason.KEY_EXPIRED: (401, {"expires_at": NOW}),
    Reason.KEY_DISABLED: (401, {"disabled_at": NOW}),
    Reason.GRACE_OVER: (401, {"valid_until": NOW}),
    Reason.GATEWAY_NOT_ALLOWED: (403, {"group": PAYMENTS, "gateway": {"group_slugs": frozenset({"search"})}}),
    Reason.GROUP_MISMATCH: (403, {"group": PAYMENTS, "question": {"group": "search"}}),
    Reason.NETWORK_NOT_ALLOWED: (403, {"networks": parse_networks(["10.0.0.0/8"])}),
}


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {**second, **first}
    for nested in ("question", "gateway"):
        if nested in first or nested in second:
            both[nested] = {**second.get(nested, {}), **first.get(nested, {})}
    return both


@pytest.mark.parametrize("why", CAUSES)
def test_each_reason_has_its_cause_and_status(why: Reason) -> None:
    status, cause = CAUSES[why]
    assert reason(**cause) is why
    assert status_of(why) == status


@pytest.mark.parametrize("group", [None, PAYMENTS])
@pytest.mark.parametrize("own", [(), parse_networks(["10.0.0.0/8", "192.0.2.0/24"])])
def test_the_installations_networks_hold_for_every_key_beside_its_own(group: KnownGroup | None, own: Any) -> None:
    gateway = {"networks": parse_networks(["10.1.0.0/16"])}

    def asked(client_ip: str | None) -> Reason | None:
        return reason(group=group, networks=own, gateway=gateway, question={"client_ip": client_ip})

    assert asked("10.1.2.3") is None
    assert {asked("10.2.0.1"), asked("192.0.2.1"), asked(None)} == {Reason.NETWORK_NOT_ALLOWED}


@pytest.mark.parametrize(("first", "second"), list(combinations(CAUSES, 2)))
def test_of_two_causes_the_one_checked_first_is_the_reason(first: Reason, second: Reason) -> None:
    assert reason(**merged(CAUSES[first][1], CAUSES[second][1])) is first


def test_an_unknown_gateway_is_refused_before_anything_else() -> None:
    decision = decide(QUESTION, None, VERSION, NOW)
    assert (decision.reason, decision.gateway, decision.version) == (Reason.GATEWAY_UNKNOWN, None, None)


def test_an_unknown_value_is_refused() -> None:
    decision = decide(QUESTION, GATEWAY, None, NOW)
    assert (decision.reason, decision.status, decision.version) == (Reason.KEY_UNKNOWN, 401, None)


def test_what_could_not_be_decided_is_neither_yes_nor_no() -> None:
    assert status_of(Reason.UNDECIDED) == 503


def test_every_reason_is_in_this_table_or_tested_beside_it() -> None:
    assert set(Reason) - set(CAUSES) == {Reason.KEY_UNKNOWN, Reason.UNDECIDED}


@pytest.mark.parametrize(
    ("fact", "why"), [("expires_at", Reason.KEY_EXPIRED), ("valid_until", Reason.GRACE_OVER)], ids=str
)
def test_the_first_instant_of_the_end_is_over(fact: str, why: Reason) -> None:
    ends: list[dict[str, Any]] = [{fact: NOW - INSTANT}, {fact: NOW}, {fact: NOW + INSTANT}]
    assert [reason(**end) for end in ends] == [why, why, None]


def test_a_gateway_token_is_refused_from_the_end_of_its_overlap() -> None:
    assert reason(gateway={"token_valid_until": NOW}) is Reason.GATEWAY_UNKNOWN
    assert reason(gateway={"token_valid_until": NOW + INSTANT}) is None


SEARCH_ONLY = {"group_slugs": frozenset({"search"})}
PAYMENTS_TOO = {"group_slugs": frozenset({"search", "payments"})}
DEMANDING = {"require_group": True}


@pytest.mark.parametrize(
    ("group", "stated", "gateway", "why"),
    [
        (PAYMENTS, None, {}, None),
        (PAYMENTS, "payments", {}, None),
        (PAYMENTS, "search", {}, Reason.GROUP_MISMATCH),
        (PAYMENTS, "Payments", {}, Reason.GROUP_MISMATCH),
        (PAYMENTS, "*", {}, Reason.GROUP_MISMATCH),
        (PAYMENTS, None, DEMANDING, Reason.GROUP_MISMATCH),
        (PAYMENTS, "payments", DEMANDING, None),
        (PAYMENTS, None, PAYMENTS_TOO, None),
        (PAYMENTS, "search", PAYMENTS_TOO, Reason.GROUP_MISMATCH),
        (PAYMENTS, "search", SEARCH_ONLY, Reason.GATEWAY_NOT_ALLOWED),
        (None, None, {}, None),
        (None, "search", {}, None),
        (None, "nobody", {}, None),
        (None, None, DEMANDING, None),
        (None, None, SEARCH_ONLY, None),
        (None, "search", SEARCH_ONLY, None),
        # A gateway that is limited to groups serves no other, whoever asks.
        (None, "payments", SEARCH_ONLY, Reason.GATEWAY_NOT_ALLOWED),
    ],
)
def test_groups(group: KnownGroup | None, stated: str | None, gateway: dict[str, Any], why: Reason | None) -> None:
    assert reason(group=group, question={"group": stated}, gateway=gateway) is why


NETWORKS = parse_networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"])


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "2001:DB8:0:0::1"],
)
def test_an_address_in_one_of_the_networks_passes(address: str) -> None:
    assert reason(networks=NETWORKS, question={"client_ip": address}) is None


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "11.0.0.1",
        "2001:db9::1",
        "10.1.2.3:443",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        "2001:db8::1%eth0",
        "10.1.2.3, 10.1.2.3",
        "10.1.2",
        "010.1.2.3",
        "10.1.2.3/32",
        "unknown",
        "\uff11\uff10.1.2.3",
        "10.1.2.3\x00",
        "x" * 10_000,
    ],
)
def test_any_other_address_and_what_is_none_does_not(address: str | None) -> None:
    assert reason(networks=NETWORKS, question={"client_ip": address}) is Reason.NETWORK_NOT_ALLOWED


def test_the_record_of_the_gateway_says_where_its_word_on_the_address_stands() -> None:
    forged = {"client_ip": "10.0.0.1", "forwarded_for": "203.0.113.9"}
    true = {"client_ip": "203.0.113.9", "forwarded_for": "10.0.0.1"}
    forwarded = {"address_forwarded": True}
    assert reason(networks=NETWORKS, question=forged, gateway=forwarded) is Reason.NETWORK_NOT_ALLOWED
    assert reason(networks=NETWORKS, question=true, gateway=forwarded) is None
    assert reason(networks=NETWORKS, question=forged) is None
    assert reason(networks=NETWORKS, question=true) is Reason.NETWORK_NOT_ALLOWED


def test_both_the_key_and_its_group_must_admit_the_address() -> None:
    group = replace(PAYMENTS, networks=parse_networks(["10.1.0.0/16"]))
    here, key_only, group_only = "10.1.2.3", "10.2.0.1", "10.1.9.9"
    networks = parse_networks(["10.1.2.0/24", "10.2.0.0/16"])
    assert reason(group=group, networks=networks, question={"client_ip": here}) is None
    for address in (key_only, group_only, None):
        why = reason(group=group, networks=networks, question={"client_ip": address})
        assert why is Reason.NETWORK_NOT_ALLOWED, address
    assert reason(group=group, question={"client_ip": group_only}) is None
    assert reason(group=group, question={"client_ip": key_only}) is Reason.NETWORK_NOT_ALLOWED


def test_mapped_networks_mean_the_addresses_that_they_map() -> None:
    networks = parse_networks(["::ffff:10.0.0.0/104"])
    assert reason(networks=networks, question={"client_ip": "10.1.2.3"}) is None
    assert reason(networks=networks, question={"client_ip": "::ffff:10.1.2.3"}) is None
    assert reason(networks=networks, question={"client_ip": "11.1.2.3"}) is Reason.NETWORK_NOT_ALLOWED


def test_every_network_of_a_family_admits_it_alone() -> None:
    assert reason(networks=parse_networks(["0.0.0.0/0"]), question={"client_ip": "203.0.113.9"}) is None
    why = reason(networks=parse_networks(["0.0.0.0/0"]), question={"client_ip": "2001:db8::1"})
    assert why is Reason.NETWORK_NOT_ALLOWED

"""May this request pass? The decision alone, without any input or output (design §6, §8).

What is known of gateway and key comes in as facts, the request as a question, and the time as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from gateways.addresses import Address, Networks, admits, parse_address


class Reason(StrEnum):
    """Why a request may not pass, in the order in which it is checked."""

    GATEWAY_UNKNOWN = "gateway_unknown"
    KEY_MISSING = "key_missing"
    KEY_MALFORMED = "key_malformed"
    KEY_UNKNOWN = "key_unknown"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_DISABLED = "key_disabled"
    GRACE_OVER = "grace_over"
    GATEWAY_NOT_ALLOWED = "gateway_not_allowed"
    GROUP_MISMATCH = "group_mismatch"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    # Nothing was found out: the database cannot be asked.
    UNDECIDED = "undecided"


FORBIDDEN: Final = frozenset(
    {Reason.GATEWAY_UNKNOWN, Reason.GATEWAY_NOT_ALLOWED, Reason.GROUP_MISMATCH, Reason.NETWORK_NOT_ALLOWED}
)


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """A registered gateway, by one of its tokens.

    group_slugs: the groups it may serve; empty = all. token_valid_until: when this token's overlap ends; None = never.
    networks: where every key's traffic must come from, by the installation's policy; it is held here because every
    decision is asked for by a gateway.
    """

    id: UUID
    counts_at_authorize: bool
    require_group: bool
    address_forwarded: bool
    group_slugs: frozenset[str]
    token_valid_until: datetime | None
    networks: Networks = ()


@dataclass(slots=True)
class KnownGroup:
    """A consumer group, shared by its keys where they are held. is_current: False = it is not what it was."""

    id: int
    slug: str
    networks: Networks
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A gateway key. public_id: its id, as answers carry it. group: None = traffic of every group."""

    public_id: bytes
    group: KnownGroup | None
    networks: Networks
    expires_at: datetime | None
    disabled_at: datetime | None
    revoked_at: datetime | None

    @property
    def id(self) -> UUID:
        return UUID(self.public_id.decode())


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """The version of a key that a value belongs to. valid_until: when its grace ends; None = it is current."""

    id: int
    number: int
    created_at: datetime
    valid_until: datetime | None
    key: KnownKey


# One of each is made for every request. Nobody changes them; but to make frozen ones takes three times as long.
@dataclass(slots=True)
class Question:
    """What a gateway asks, with digests instead of values.

    gateway_token: None where there is none of the right shape. key: the digest of the value presented, or why there is
    none (KEY_MISSING, KEY_MALFORMED). group: the group that the gateway says the traffic is of; None = it is silent.
    """

    gateway_token: bytes | None
    key: bytes | Reason
    group: str | None = None
    client_ip: str | None = None
    forwarded_for: str | None = None

    def address_at(self, gateway: KnownGateway) -> Address | None:
        """The client's address from where the gateway's record says it can be trusted; None where there is none."""
        return parse_address(self.forwarded_for if gateway.address_forwarded else self.client_ip)


@dataclass(slots=True)
class Decision:
    """What was decided at one instant, and about whom. reason: None = the request may pass.

    gateway: None where its token is not accepted; version: None where the value is of no key.
    """

    reason: Reason | None
    at: datetime
    gateway: KnownGateway | None
    version: KnownVersion | None

    @property
    def allowed(self) -> bool:
        return self.reason is None

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        return 200 if self.reason is None else status_of(self.reason)


def status_of(reason: Reason) -> int:
    """Return the HTTP status of a refusal: RFC 6750 §3.1, and 503 for what could not be decided."""
    if reason is Reason.UNDECIDED:
        return 503
    return 403 if reason in FORBIDDEN else 401


def decide(question: Question, gateway: KnownGateway | None, version: KnownVersion | None, at: datetime) -> Decision:
    """Return the decision at the instant `at`, by what is known of the question's gateway token and key value."""
    if gateway is None or ((end := gateway.token_valid_until) is not None and end <= at):
        return Decision(Reason.GATEWAY_UNKNOWN, at, None, None)
    if isinstance(question.key, Reason):
        return Decision(question.key, at, gateway, None)
    if version is None:
        return Decision(Reason.KEY_UNKNOWN, at, gateway, None)
    # A span's end is the first instant that no longer belongs to it.
    key = version.key
    if key.revoked_at is not None:
        reason: Reason | None = Reason.KEY_REVOKED
    elif (end := key.expires_at) is not None and end <= at:
        reason = Reason.KEY_EXPIRED
    elif key.disabled_at is not None:
        reason = Reason.KEY_DISABLED
    elif (end := version.valid_until) is not None and end <= at:
        reason = Reason.GRACE_OVER
    else:
        reason = _out_of_scope(question, gateway, key)
    return Decision(reason, at, gateway, version)


def _out_of_scope(question: Question, gateway: KnownGateway, key: KnownKey) -> Reason | None:
    group, stated = key.group, question.group
    # A key without group is of every group: what such traffic is of, the gateway alone can say.
    slug = group.slug if group is not None else stated
    if gateway.group_slugs and slug is not None and slug not in gateway.group_slugs:
        return Reason.GATEWAY_NOT_ALLOWED
    if group is not None and stated != group.slug and (stated is not None or gateway.require_group):
        return Reason.GROUP_MISMATCH
    of_group = group.networks if group is not None else ()
    if key.networks or of_group or gateway.networks:
        address = question.address_at(gateway)
        if not all(admits(networks, address) for networks in (key.networks, of_group, gateway.networks)):
            return Reason.NETWORK_NOT_ALLOWED
    return None

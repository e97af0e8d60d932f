"""Why a request was refused: the checks in their order, what would have let it pass, and what would be decided now.

An event keeps who asked, of which key and group, from which address, which group the gateway said the traffic was of,
and the reason. Those written before the stated group was kept lack it: where it matters, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from access.models import Member
from audit import clock
from audit.moments import stamp
from gateways.addresses import parse_networks
from gateways.decision import KnownGateway, KnownGroup, KnownKey, KnownVersion, Question, Reason, decide
from gateways.lookup import LONG_AGO
from gateways.models import ClientAddress, Gateway, UsageSource
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.policy import installation_policy
from usage.models import UsageEvent
from usage.reasons import REASONS


class Passed(StrEnum):
    YES = "passed"
    NO = "failed"
    NOT_ASKED = "not asked"


# Each check as what must hold, in the order in which they are made.
CHECKS: Final = {
    Reason.GATEWAY_UNKNOWN: "The gateway is registered, and its token accepted",
    Reason.KEY_MISSING: "A key is given",
    Reason.KEY_MALFORMED: "It has the shape and the checksum of a key",
    Reason.KEY_UNKNOWN: "It is the value of a key",
    Reason.KEY_REVOKED: "The key is not revoked",
    Reason.KEY_EXPIRED: "The key has not expired",
    Reason.KEY_DISABLED: "The key is not disabled",
    Reason.GRACE_OVER: "The value is the current one, or in grace",
    Reason.GATEWAY_NOT_ALLOWED: "The gateway may serve this traffic's group",
    Reason.GROUP_MISMATCH: "The gateway says the group that the key is of",
    Reason.NETWORK_NOT_ALLOWED: "The client's address is in an allowed network",
}
_ORDER: Final = list(CHECKS)
# What an event is to be fetched with.
RELATED: Final = ("gateway", "key__consumer_group", "key__revoked_by", "version", "consumer_group")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. reason: of a refusal by it."""

    reason: Reason
    title: str
    passed: Passed
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Now:
    """What would be decided now. allowed: None = it cannot be told; detail: a sentence or two."""

    allowed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is told of one denial. stated: the group that the gateway named, in words; "" = not kept.

    remedies: what would have let it pass, one way each.
    """

    stated: str
    checks: tuple[Check, ...]
    remedies: tuple[str, ...]
    now: Now


def explain(event: UsageEvent, member: Member) -> Explanation:
    """Explain a denial to `member`, who may see it. Other groups than theirs are not named to a Manager."""
    gateway: Gateway = event.gateway
    served = list(gateway.consumer_groups.order_by("name"))
    seen = {group.pk for group in member.visible(ConsumerGroup.objects.filter(pk__in=[one.pk for one in served]))}
    facts = _Facts(event, served, [one for one in served if one.pk in seen], _stated_words(event, member))
    return Explanation(facts.stated_words, _checks(facts), tuple(_remedies(facts)), _now(facts))


class _Facts:
    """What the event says and what is on record now.

    named: of the groups the gateway may serve, those to name. stated_words: the group that it named, "" = not kept.
    """

    def __init__(
        self, event: UsageEvent, served: Sequence[ConsumerGroup], named: Sequence[ConsumerGroup], stated_words: str
    ) -> None:
        self.event = event
        self.gateway: Gateway = event.gateway
        self.key: GatewayKey | None = event.key
        self.version: KeyVersion | None = event.version
        # As it was at the time; the key may be of another one since.
        self.group: ConsumerGroup | None = event.consumer_group
        self.served = served
        self.named = named
        # None = not kept; "" = none.
        self.stated: str | None = event.stated_group
        self.stated_words = stated_words

    @property
    def serves(self) -> str:
        """The groups the gateway may serve now, in words."""
        if not self.served:
            return "all groups"
        others = len(self.served) - len(self.named)
        names = [f"“{group.name}” ({group.slug})" for group in self.named]
        if others:
            noun = "group" if others == 1 else "groups"
            names.append(f"{others:,} {noun} that you do not manage")
        return ", ".join(names)

    @property
    def networks(self) -> str:
        """The networks that key and group allow now, in words; "" where any may."""
        parts = []
        if self.key is not None and self.key.allowed_networks:
            parts.append(f"the key allows {', '.join(self.key.allowed_networks)}")
        if self.key is not None and self.key.consumer_group and self.key.consumer_group.allowed_networks:
            group = self.key.consumer_group
            parts.append(f"its group “{group.name}” allows {', '.join(group.allowed_networks)}")
        if everywhere := installation_policy().allowed_networks:
            parts.append(f"the installation allows {', '.join(everywhere)}")
        return " and ".join(parts)

    @property
    def address(self) -> str:
        return self.event.client_ip or ""

    @property
    def where_from(self) -> str:
        """Where the gateway's record says the client's address is read."""
        return (
            "the right-most X-Forwarded-For"
            if self.gateway.client_address == ClientAddress.FORWARDED
            else "X-Keeptrusts-Client-IP"
        )


def _stated_words(event: UsageEvent, member: Member) -> str:
    """Return which group the gateway named, in words for `member`; "" where that was not kept."""
    match event.stated_group:
        case None:
            return ""
        case "":
            return "no group"
        case slug:
            group = ConsumerGroup.objects.filter(slug=slug).first()
            if group is None:
                return f"“{slug}”, which is no group's slug"
            if not member.visible(ConsumerGroup.objects.filter(pk=group.pk)).exists():
                return "a group that you do not manage"
            return f"“{group.name}” ({group.slug})"


def _checks(facts: _Facts) -> tuple[Check, ...]:
    reason = facts.event.reason
    if reason not in _ORDER:
        return ()
    failed = _ORDER.index(Reason(reason))
    checks = []
    for place, (check, title) in enumerate(CHECKS.items()):
        if place > failed:
            checks.append(Check(check, title, Passed.NOT_ASKED))
        else:
            checks.append(
                Check(
                    check, title, Passed.NO if place == failed else Passed.YES, _detail(check, facts, place == failed)
                )
            )
    return tuple(checks)


def _detail(check: Reason, facts: _Facts, failed: bool) -> str:
    """Say what was found at one check that was made."""
    key, version, group = facts.key, facts.version, facts.group
    match check:
        case Reason.GATEWAY_UNKNOWN:
            return f"It was {facts.gateway.name}."
        case Reason.KEY_UNKNOWN if version is not None and key is not None:
            return f"It is version {version.number} ({version.hint}) of {key.name}."
        case Reason.KEY_REVOKED if failed and key is not None and key.revoked_at is not None:
            why = f" Reason: {key.revoke_reason}" if key.revoke_reason else ""
            return f"It was revoked on {stamp(key.revoked_at)} by {key.revoked_by or 'the system'}.{why}"
        case Reason.KEY_EXPIRED if key is not None:
            if key.expires_at is None:
                return "" if failed else "It never expires."
            return f"It expired on {stamp(key.expires_at)}." if failed else f"Its expiry: {stamp(key.expires_at)}."
        case Reason.KEY_DISABLED if failed and key is not None:
            since = f" since {stamp(key.disabled_at)}" if key.disabled_at else ", and has been enabled since"
            return f"It was disabled{since}."
        case Reason.GRACE_OVER if version is not None:
            return _grace(version, failed)
        case Reason.GATEWAY_NOT_ALLOWED:
            named = facts.stated_words or "the group that the gateway named"
            of = f"“{group.name}” ({group.slug})" if group else f"{named}, as the gateway said; the key is of all"
            return f"The traffic is of {of}. On record the gateway now serves: {facts.serves}."
        case Reason.GROUP_MISMATCH if group is not None:
            if not failed:
                return f"The key is of “{group.name}” ({group.slug})."
            silent = ", or none, which this gateway must" if facts.gateway.require_group else ""
            if facts.stated_words:
                must = ", and this gateway must say one" if not facts.stated and facts.gateway.require_group else ""
                return f"The key was of “{group.name}” ({group.slug}); the gateway said {facts.stated_words}{must}."
            return (
                f"The key was of “{group.name}” ({group.slug}); the gateway said another group{silent}. "
                "Which one is not kept with the event."
            )
        case Reason.NETWORK_NOT_ALLOWED:
            came = (
                f"It came from {facts.address}" if facts.address else f"No address was readable in {facts.where_from}"
            )
            return f"{came}; {facts.networks or 'no networks are set any more'}."
        case _:
            return ""


def _grace(version: KeyVersion, failed: bool) -> str:
    end = version.closed_at or version.valid_until
    if failed and end is not None:
        return f"Version {version.number} ({version.hint}) was accepted until {stamp(end)}."
    return f"Version {version.number} ({version.hint})."


def _remedies(facts: _Facts) -> list[str]:
    """Return what would have let it pass, for a person to choose from."""
    key, group, gateway = facts.key, facts.group, facts.gateway
    current = f" The current value's hint is {key.hint}." if key is not None else ""
    match facts.event.reason:
        case Reason.KEY_MISSING:
            return ["Send the value as “Authorization: Bearer kt_gk_…”, and let the gateway pass that header on."]
        case Reason.KEY_MALFORMED:
            return ["Send the whole value, all 38 characters: a part was cut off, or something else was put there."]
        case Reason.KEY_UNKNOWN:
            return ["Send a value that was issued here; after a typing error the checksum would have told."]
        case Reason.KEY_REVOKED:
            return ["Nothing: a revocation is for good. Create a new key and give its value to the client."]
        case Reason.KEY_EXPIRED:
            return [
                "Nothing brings an expired key back. Create a new one; next time, renew the expiry with a rotation."
            ]
        case Reason.KEY_DISABLED:
            return ["Enable the key."]
        case Reason.GRACE_OVER:
            return [
                f"Send the current value.{current} Whoever runs the client has not taken over the new one.",
                "Nobody has it any more? Rotate the key, and store the value that is shown then.",
            ]
        case Reason.GATEWAY_NOT_ALLOWED:
            of = f"“{group.name}”" if group else facts.stated_words or "the group that it named"
            return [
                f"Send the request to a gateway that may serve {of}.",
                f"Or let {gateway.name} serve it: add the group on the gateway's page (an Admin can).",
            ]
        case Reason.GROUP_MISMATCH if group is not None:
            ways = [
                f"Let the route of {gateway.name} say “{group.slug}” in X-Keeptrusts-Consumer-Group, if the traffic is "
                "of that group.",
            ]
            if facts.stated != "":
                ways.append("Or use a key of the group that the route says, or move this key there.")
            if facts.stated is None and gateway.require_group:
                ways.append(f"Or, where the route says nothing: {gateway.name} requires that it does.")
            return ways
        case Reason.NETWORK_NOT_ALLOWED:
            if not facts.address:
                return [
                    f"Let {gateway.name} send the client's address in {facts.where_from}: without one no network fits."
                ]
            return [
                f"Send the request from an allowed network: {facts.networks or 'none is set any more'}.",
                f"Or add {facts.address} to the allowed networks, of the key, of its group and of the installation: "
                "wherever there are any, they must have it.",
            ]
        case _:
            return []


def _now(facts: _Facts) -> Now:
    """Decide again by what is on record now, with the same value from the same address at the same gateway.

    The gateway says the same group again, where it is kept which one it said.
    """
    if facts.key is None or facts.version is None:
        return Now(None, "The value was of no key, and nothing of it is kept: it cannot be asked again.")
    key = facts.key
    at = clock.now()
    group = key.consumer_group
    if facts.gateway.client_address == ClientAddress.FORWARDED:
        question = Question(b"", b"", forwarded_for=facts.event.client_ip)
    else:
        question = Question(b"", b"", client_ip=facts.event.client_ip)
    if facts.stated is not None:
        question.group = facts.stated or None
    else:
        # What the gateway would say is unknown: the most favourable, so that a refusal is certain.
        question.group = group.slug if group is not None else None
    decision = decide(question, _known_gateway(facts), _known_version(key, facts.version), at)
    if decision.reason is not None:
        told = _lower(REASONS.get(decision.reason, decision.reason))
        same = " still" if decision.reason == facts.event.reason else ""
        return Now(False, f"It would{same} be refused ({decision.reason}): {told}.")
    if facts.stated is not None:
        return Now(True, f"It would pass if the gateway says {facts.stated_words} again.")
    if group is None:
        limits = " if it is of a group that the gateway serves" if facts.served else ""
        return Now(True, f"It would pass{limits or ': the key is of all groups'}.")
    says = f"if the gateway says that the traffic is of “{group.slug}”"
    return Now(True, f"It would pass {says}{'' if facts.gateway.require_group else ', or says no group'}.")


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _known_gateway(facts: _Facts) -> KnownGateway:
    gateway = facts.gateway
    return KnownGateway(
        id=gateway.pk,
        counts_at_authorize=gateway.usage_source == UsageSource.AUTHORIZE,
        require_group=gateway.require_group,
        address_forwarded=gateway.client_address == ClientAddress.FORWARDED,
        group_slugs=frozenset(group.slug for group in facts.served),
        # Of its current token: which one it used is not kept.
        token_valid_until=None,
        networks=parse_networks(installation_policy().allowed_networks),
    )


def _known_version(key: GatewayKey, version: KeyVersion) -> KnownVersion:
    group = key.consumer_group
    until: datetime | None = version.valid_until if version.closed_at is None else LONG_AGO
    return KnownVersion(
        id=version.pk,
        number=version.number,
        created_at=version.created_at,
        valid_until=until,
        key=KnownKey(
            public_id=str(key.pk).encode(),
            group=KnownGroup(group.pk, group.slug, parse_networks(group.allowed_networks)) if group else None,
            networks=parse_networks(key.allowed_networks),
            expires_at=key.expires_at,
            disabled_at=key.disabled_at,
            revoked_at=key.revoked_at,
        ),
    )

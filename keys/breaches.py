"""Which keys do not keep to the policy that holds for them now, and in what.

No verb makes such a key. One comes from a policy that became stricter, whose Admin chose to leave the keys as they
were; it is listed until somebody mends it, or time does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from django.db.models import Q

from audit.moments import duration, stamp
from keys.idle import quiet_for, quiet_since, revoked_at
from keys.models import GatewayKey, PolicyFields
from keys.networks import outside
from keys.policy import Policies, Rules, in_days, longest_grace
from keys.status import KeyStatus

# A breach of what no longer decides anything is none.
LIVE: Final = (KeyStatus.ACTIVE, KeyStatus.ROTATING, KeyStatus.DISABLED)


class BreachKind(StrEnum):
    """What a key breaks, in the order in which it is told. The names are for machines and stay."""

    EXPIRY_MISSING = "expiry_missing"
    EXPIRY_TOO_LATE = "expiry_too_late"
    GRACE_TOO_LONG = "grace_too_long"
    NETWORK_OUTSIDE = "network_outside"
    IDLE = "idle"

    @property
    def label(self) -> str:
        """What it is called where there is no room for a sentence."""
        return _LABELS[self]


_LABELS: Final = {
    BreachKind.EXPIRY_MISSING: "never expires",
    BreachKind.EXPIRY_TOO_LATE: "expires too late",
    BreachKind.GRACE_TOO_LONG: "grace too long",
    BreachKind.NETWORK_OUTSIDE: "networks too wide",
    BreachKind.IDLE: "unused too long",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing in which a key does not keep to its policy. words: a sentence that says what, and whose rule it is."""

    kind: BreachKind
    words: str


def breaches(key: GatewayKey, rules: Rules, now: datetime) -> tuple[Breach, ...]:
    """Return in what `key` breaks `rules`, those of its group and the installation; nothing where it keeps to them.

    Asks the database nothing where the key comes with its `metrics`. Rules of many keys: `Policies.load().of(key)`.
    """
    if key.status_at(now) not in LIVE:
        return ()
    found = ((kind, told(key, rules, now)) for kind, told in _TOLD.items())
    return tuple(Breach(kind, words) for kind, words in found if words)


def breaking(policies: Policies, now: datetime) -> dict[BreachKind, Q]:
    """Return for each kind the condition on keys that `breaches` finds it of, of the groups in `policies` alone."""
    found: dict[BreachKind, Q] = dict.fromkeys(BreachKind, Q(pk__in=[]))
    for one, of in _scopes(policies):
        for kind, condition in _conditions(one, now).items():
            found[kind] |= of & condition
    found[BreachKind.NETWORK_OUTSIDE] = _outside(policies)
    return {kind: live(now) & condition for kind, condition in found.items()}


def in_breach(policies: Policies, now: datetime) -> Q:
    """Return the condition on keys that break anything."""
    return any_of(breaking(policies, now))


def any_of(kinds: Mapping[BreachKind, Q]) -> Q:
    """Return the condition on keys that break anything, of what `breaking` has returned: that asks the database."""
    condition = Q(pk__in=[])
    for one in kinds.values():
        condition |= one
    return condition


def live(now: datetime) -> Q:
    """Return the condition on keys that a policy still means something for: those in a status of LIVE."""
    # Without asking in which: a database asks it of every key, and more than once where several conditions meet.
    return Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))


# --- of one key -------------------------------------------------------------------------------------------------------


def _expiry_missing(key: GatewayKey, rules: Rules, now: datetime) -> str:
    missing = key.expires_at is None and rules.needs_expiry
    return f"It never expires. {rules.needs_expiry} requires an expiry." if missing else ""


def _expiry_too_late(key: GatewayKey, rules: Rules, now: datetime) -> str:
    most = rules.max_lifetime
    if most is None or key.expires_at is None or key.expires_at <= now + timedelta(days=most.value):
        return ""
    return f"It expires {stamp(key.expires_at)}. {most.of} allows at most {in_days(most.value)} from now."


def _grace_too_long(key: GatewayKey, rules: Rules, now: datetime) -> str:
    most, until = rules.max_grace, key.grace_until
    if most is None or until is None or until <= now or until - now <= longest_grace(rules):
        return ""
    allows = f"at most {duration(longest_grace(rules))} from now" if most.value else "no grace"
    return f"Its old value is accepted until {stamp(until)}. {most.of} allows {allows}."


def _network_outside(key: GatewayKey, rules: Rules, now: datetime) -> str:
    for fence in rules.fences:
        if beyond := outside(key.allowed_networks, fence.networks):
            return f"It allows {', '.join(beyond[:5])}. {fence.of} allows {', '.join(fence.networks[:5])} alone."
    return ""


def _idle(key: GatewayKey, rules: Rules, now: datetime) -> str:
    end, since = revoked_at(key, rules), quiet_since(key)
    days = min((rule.days for rule in rules.idle), default=None)
    if end is None or days is None or since >= now - timedelta(days=days):
        return ""
    at, rule = end
    when = f"on {stamp(at)}" if at > now else "now"
    return f"Nobody has used it since {stamp(since)}. {rule.of} revokes it {when}, unless it is used before."


_TOLD: Final[Mapping[BreachKind, Callable[[GatewayKey, Rules, datetime], str]]] = {
    BreachKind.EXPIRY_MISSING: _expiry_missing,
    BreachKind.EXPIRY_TOO_LATE: _expiry_too_late,
    BreachKind.GRACE_TOO_LONG: _grace_too_long,
    BreachKind.NETWORK_OUTSIDE: _network_outside,
    BreachKind.IDLE: _idle,
}


# --- of many ----------------------------------------------------------------------------------------------------------


def _scopes(policies: Policies) -> Iterable[tuple[PolicyFields, Q]]:
    """Yield each policy with the condition on the keys that it is for; groups with the same rules together."""
    yield policies.installation, Q()
    alike: dict[tuple[Any, ...], tuple[PolicyFields, list[int]]] = {}
    for group in policies.groups.values():
        rules = (group.max_lifetime_days, group.expiry_required, group.max_grace_seconds, group.idle_days)
        alike.setdefault(rules, (group, []))[1].append(group.pk)
    for rules, (one, ids) in alike.items():
        if rules != (None, False, None, None):
            yield one, Q(consumer_group__in=ids)


def _conditions(one: PolicyFields, now: datetime) -> dict[BreachKind, Q]:
    """Return which keys break this policy, in each of its rules."""
    found = {}
    if one.expiry_required or one.max_lifetime_days is not None:
        found[BreachKind.EXPIRY_MISSING] = Q(expires_at__isnull=True)
    if one.max_lifetime_days is not None:
        found[BreachKind.EXPIRY_TOO_LATE] = Q(expires_at__gt=now + timedelta(days=one.max_lifetime_days))
    if one.max_grace_seconds is not None:
        found[BreachKind.GRACE_TOO_LONG] = Q(grace_until__gt=now + timedelta(seconds=one.max_grace_seconds))
    if one.idle_days is not None:
        found[BreachKind.IDLE] = quiet_for(one.idle_days, now)
    return found


def _outside(policies: Policies) -> Q:
    """Return which keys have networks beyond those of a policy. No database compares lists of them: each is once."""
    fenced = [group.pk for group in policies.groups.values() if group.allowed_networks]
    everywhere = bool(policies.installation.allowed_networks)
    if not fenced and not everywhere:
        return Q(pk__in=[])
    # An empty condition is left out of an "or": whichever of both it is, it stands alone.
    which = Q() if everywhere else Q(consumer_group__in=fenced)
    lists = GatewayKey.objects.filter(which, revoked_at__isnull=True).exclude(allowed_networks=[]).order_by()
    rules: dict[int | None, Rules] = {}
    beyond: defaultdict[tuple[str, ...], set[int | None]] = defaultdict(set)
    for group_id, networks in lists.values_list("consumer_group", "allowed_networks").distinct():
        if group_id not in rules:
            rules[group_id] = policies.of(GatewayKey(consumer_group_id=group_id))
        if any(outside(networks, fence.networks) for fence in rules[group_id].fences):
            beyond[tuple(networks)].add(group_id)
    # Lists that are too wide for the same groups are one condition: each one costs every key of the table.
    alike: defaultdict[frozenset[int | None], list[list[str]]] = defaultdict(list)
    for names, group_ids in beyond.items():
        alike[frozenset(group_ids)].append(list(names))
    found = Q(pk__in=[])
    for groups, networks in alike.items():
        of = Q(consumer_group__in=groups - {None})
        of = of | Q(consumer_group__isnull=True) if None in groups else of
        found |= Q(allowed_networks__in=networks) & of
    return found

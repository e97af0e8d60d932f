"""What policy says of a key's expiry, grace and networks; the same for form, API, bulk and jobs.

There are two policies: the installation's, for every key, and its consumer group's. Of each rule the stricter holds,
and what is refused names whose rule it was. A verb takes `standing()` first: no policy changes before it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection

from audit.moments import duration, stamp
from keys.models import MOST_DAYS, MOST_GRACE_SECONDS, ConsumerGroup, GatewayKey, InstallationPolicy, PolicyFields
from keys.networks import outside

# The fields of a policy, of the group's as of the installation's.
POLICY: Final = (
    "default_lifetime_days",
    "max_lifetime_days",
    "expiry_required",
    "max_grace_seconds",
    "allowed_networks",
    "idle_days",
)
# PostgreSQL's advisory lock on all policies: "ktpo". Rows would not do: each verb would write its lock into them.
_LOCK: Final = 0x6B74706F


@dataclass(frozen=True, slots=True)
class Limit:
    """A ceiling, and whose it is. of: the begin of a sentence, as in "The policy of payments"."""

    value: int
    of: str


@dataclass(frozen=True, slots=True)
class Idle:
    """After how many days without use a key is revoked. since: when that became the rule."""

    days: int
    since: datetime | None
    of: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Networks that a key's traffic may come from; of them none is left out."""

    networks: tuple[str, ...]
    of: str

    @property
    def within(self) -> str:
        """Whose it is, within a sentence."""
        return lower(self.of)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for keys of one group, or for unscoped ones.

    expiry_required: whose rule it is; "" = nobody's. fences, idle: one for each policy that has such a rule.
    """

    default_lifetime_days: int | None
    max_lifetime: Limit | None
    expiry_required: str
    max_grace: Limit | None
    fences: tuple[Fence, ...]
    idle: tuple[Idle, ...]

    @property
    def needs_expiry(self) -> str:
        """Whose rule it is that a key expires; "" where it need not."""
        return self.expiry_required or (self.max_lifetime.of if self.max_lifetime else "")

    @property
    def most_days(self) -> int:
        return self.max_lifetime.value if self.max_lifetime else MOST_DAYS

    @property
    def proposed_days(self) -> int | None:
        """The lifetime of a key for which none was chosen; None where nothing is proposed."""
        return self.default_lifetime_days or (self.max_lifetime.value if self.max_lifetime else None)


@dataclass(frozen=True, slots=True)
class Policies:
    """Every policy at one moment. groups: by id; of a group that is not there, only the installation's holds."""

    installation: InstallationPolicy
    groups: Mapping[int, ConsumerGroup]

    @classmethod
    def load(cls) -> Policies:
        """Read them all, in two queries."""
        return cls(installation_policy(), {group.pk: group for group in ConsumerGroup.objects.all()})

    def of(self, key: GatewayKey) -> Rules:
        """Return what holds for this key."""
        group = self.groups.get(key.consumer_group_id) if key.consumer_group_id is not None else None
        return rules_of(group, self.installation)


def installation_policy() -> InstallationPolicy:
    """Return the installation's policy as it is now; without rules where its row is not there."""
    return InstallationPolicy.objects.first() or InstallationPolicy(pk=1)


def standing() -> InstallationPolicy:
    """Return the installation's policy; no policy is edited before the caller's transaction ends.

    To be taken before any row's lock, for whoever edits a policy takes it first, too.
    """
    _lock(shared=True)
    return installation_policy()


def about_to_change() -> InstallationPolicy:
    """Return the installation's policy when nobody goes by any policy; until the caller's transaction ends."""
    _lock(shared=False)
    return installation_policy()


def rules_of(group: ConsumerGroup | None, installation: InstallationPolicy | None = None) -> Rules:
    """Return what holds for keys of `group`: of each rule the stricter. installation: as it is now, if it is known."""
    installation = installation or installation_policy()
    both: tuple[PolicyFields, ...] = (installation,) if group is None else (group, installation)
    longest = _lowest(both, "max_lifetime_days")
    default = next((one.default_lifetime_days for one in both if one.default_lifetime_days is not None), None)
    return Rules(
        default_lifetime_days=min(default, longest.value) if default is not None and longest is not None else default,
        max_lifetime=longest,
        expiry_required=next((whose(one) for one in both if one.expiry_required), ""),
        max_grace=_lowest(both, "max_grace_seconds"),
        fences=tuple(Fence(tuple(one.allowed_networks), whose(one)) for one in both if one.allowed_networks),
        idle=tuple(Idle(one.idle_days, one.idle_since, whose(one)) for one in both if one.idle_days is not None),
    )


def whose(one: PolicyFields) -> str:
    """Return what a policy is called at the begin of a sentence."""
    return f"The policy of {one.name}" if isinstance(one, ConsumerGroup) else "The installation's policy"


# --- what the verbs ask -----------------------------------------------------------------------------------------------


def default_expiry(rules: Rules, now: datetime) -> datetime | None:
    """Return the expiry of a new key for which none was chosen; None = it does not expire.

    Without a default the longest that the policy allows is taken. Errors: ValidationError where the policy demands
    an expiry and proposes none.
    """
    if rules.proposed_days is not None:
        return now + timedelta(days=rules.proposed_days)
    check_expiry(None, rules, now)
    return None


def check_expiry(expires_at: datetime | None, rules: Rules, now: datetime) -> None:
    """Return if a key under `rules` may be set now to expire at `expires_at`; else ValidationError at that field."""
    if expires_at is None:
        if rules.needs_expiry:
            raise _error("expires_at", "expiry_required", f"{rules.needs_expiry} requires an expiry.")
        return
    if expires_at <= now:
        raise _error("expires_at", "in_the_past", "This lies in the past.")
    if expires_at > now + timedelta(days=rules.most_days):
        message = f"{_allows(rules.max_lifetime)} {rules.most_days:,} days from now."
        raise _error("expires_at", "lifetime_exceeded", message)


def check_networks(networks: Iterable[str], rules: Rules) -> None:
    """Return if each of a key's networks lies in those of every policy; else ValidationError at that field.

    A key without networks of its own needs none: gateways hold the policy's against the address, too.
    """
    networks = list(networks)
    for fence in rules.fences:
        if beyond := outside(networks, fence.networks):
            message = f"{_listed(beyond)} is not within what {lower(fence.of)} allows: {_listed(fence.networks)}."
            raise _error("allowed_networks", "network_outside", message)


def check_running_grace(grace_until: datetime | None, rules: Rules, now: datetime) -> None:
    """Return if a grace that runs may go on under `rules`, those of another group; else ValidationError there."""
    if grace_until is not None and grace_until - now > longest_grace(rules):
        message = f"{_allows(rules.max_grace)} {_longest(rules)} of grace, and its old value is accepted until "
        message += f"{stamp(grace_until)}. End its grace first."
        raise _error("consumer_group", "grace_exceeded", message)


def renewed_expiry(lifetime: timedelta, rules: Rules, now: datetime) -> datetime:
    """Return the expiry that a rotation gives: the key's lifetime from now, cut to what the policy allows today."""
    return now + min(lifetime, timedelta(days=rules.most_days))


def longest_grace(rules: Rules) -> timedelta:
    """Return the ceiling of a grace period."""
    return timedelta(seconds=MOST_GRACE_SECONDS if rules.max_grace is None else rules.max_grace.value)


def chosen_grace(grace: timedelta | None, rules: Rules) -> timedelta:
    """Return the grace of a rotation: the one asked for, or the default within the ceiling.

    Errors: ValidationError at `grace_seconds` for a negative one and one above the ceiling.
    """
    ceiling = longest_grace(rules)
    if grace is None:
        return min(settings.KEEPTRUSTS_DEFAULT_GRACE, ceiling)
    if grace < timedelta(0):
        raise _error("grace_seconds", "min_value", "This may not be negative.")
    if grace > ceiling:
        raise _error("grace_seconds", "grace_exceeded", f"{_allows(rules.max_grace)} {_seconds(rules)} seconds.")
    return grace


def extended_grace(
    key: GatewayKey, until: datetime | None, grace: timedelta | None, rules: Rules, now: datetime
) -> datetime:
    """Return when the running grace of `key` is to end: `until`, or `grace` from now, cut to the key's expiry.

    Errors: ValidationError where not exactly one of both is given, for an end above the ceiling, counted from now, and
    for one that is not later than the end that stands.
    """
    if until is not None and grace is None:
        field, end = "until", until
        if until > now and until - now > longest_grace(rules):
            message = f"{_allows(rules.max_grace)} {_seconds(rules)} seconds from now."
            raise _error(field, "grace_exceeded", message)
    elif grace is not None and until is None:
        field, end = "grace_seconds", now + chosen_grace(grace, rules)
    else:
        raise _error("until", "required", "Say until when, or for how long.")
    if key.expires_at is not None:
        end = min(end, key.expires_at)
    if key.grace_until is not None and end <= key.grace_until:
        message = "The old value is accepted for as long as that already. Choose a later end."
        if end == key.expires_at:
            message = "The old value is accepted until the key expires already. Set a later expiry first."
        raise _error(field, "not_later", message)
    return end


# --- in words ---------------------------------------------------------------------------------------------------------


def in_words(rules: Rules) -> list[str]:
    """Return all that holds, a sentence for each rule; one that says so where there is none."""
    words = []
    if rules.max_lifetime is not None:
        words.append(f"A key lives for at most {in_days(rules.max_lifetime.value)}; an expiry is mandatory.")
    elif rules.expiry_required:
        words.append("An expiry is mandatory.")
    if rules.default_lifetime_days is not None:
        words.append(f"Proposed: {in_days(rules.default_lifetime_days)}.")
    if rules.max_grace is not None:
        span = f"stays accepted for at most {_longest(rules)}" if rules.max_grace.value else "is refused at once"
        words.append(f"After a rotation the old value {span}.")
    for number, fence in enumerate(rules.fences):
        also = "and, by the installation's policy, only" if number else "only"
        words.append(f"Accepted {also} from {', '.join(fence.networks)}.")
    if rules.idle:
        days = min(idle.days for idle in rules.idle)
        words.append(f"A key that nobody has used for {in_days(days)} is revoked.")
    return words or ["No rule: a key may live for ever, from anywhere."]


def in_days(days: int) -> str:
    return "1 day" if days == 1 else f"{days:,} days"


def lower(words: str) -> str:
    """Return whose rule it is as it stands within a sentence."""
    return words[:1].lower() + words[1:]


def _lowest(both: Iterable[PolicyFields], field: str) -> Limit | None:
    limits = [Limit(value, whose(one)) for one in both if (value := getattr(one, field)) is not None]
    return min(limits, key=lambda limit: limit.value, default=None)


def _lock(*, shared: bool) -> None:
    # SQLite lets one writing transaction in at a time, from its start.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            kind = "_shared" if shared else ""
            cursor.execute(f"SELECT pg_advisory_xact_lock{kind}(%s)", [_LOCK])


def _error(field: str, code: str, message: str) -> ValidationError:
    return ValidationError({field: ValidationError(message, code=code)})


def _allows(limit: Limit | None) -> str:
    return f"{limit.of} allows at most" if limit is not None else "At most"


def _seconds(rules: Rules) -> str:
    return f"{int(longest_grace(rules).total_seconds()):,}"


def _longest(rules: Rules) -> str:
    return duration(longest_grace(rules)) if longest_grace(rules) else "no time"


def _listed(networks: Iterable[str]) -> str:
    names = list(networks)
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more:,} more" if more > 0 else "")

"""Why a gateway key needs somebody's attention: one definition of each concern, for the hygiene page, the dashboard
and the list's filter. Only keys that are accepted now need any: what is over can do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.moments import moment, relative
from keys.breaches import breaches, in_breach
from keys.models import GatewayKey, GatewayKeyQuerySet, never_used, unused_since, without_owner
from keys.policy import Policies, rules_of
from keys.status import KeyStatus

SOON_DAYS: Final = 7
LATER_DAYS: Final = 30
UNUSED_DAYS: Final = 30
# A key that was made so recently need not have been used yet.
SETTLING: Final = timedelta(days=1)
# A grace is long when an old value is still accepted for more than this.
LONG_GRACE: Final = timedelta(days=2)
# So many keys of each concern are named; the rest is behind its link.
NAMED: Final = 5

type Told = Callable[[GatewayKey, datetime], SafeString | str]


@dataclass(frozen=True, slots=True)
class Concern:
    """A reason to look at a key.

    condition: on keys, at an instant. first: the field by which they are named. told: what is said of each beside its
    name. fixes: the bulk fixes that fit (keys/bulk.py), the best first. joined: the same condition by a join with the
    keys' figures, where it asks for them: quicker where all keys are gone through anyway to count several concerns.
    """

    slug: str
    title: str
    icon: str
    why: str
    condition: Callable[[datetime], Q]
    first: str
    told: Told
    fixes: tuple[str, ...]
    label: str = ""
    joined: Callable[[datetime], Q] | None = None

    @property
    def link(self) -> str:
        """The list of exactly the keys that are counted."""
        query = urlencode({"status": [KeyStatus.ACTIVE, KeyStatus.ROTATING], "attention": self.slug}, doseq=True)
        return f"{reverse('admin:keys_gatewaykey_changelist')}?{query}"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a concern: how many keys, and the first of them, each with its address and what is told."""

    concern: Concern
    count: int
    keys: list[tuple[GatewayKey, str, SafeString | str]]

    @property
    def title(self) -> str:
        return self.concern.title

    @property
    def icon(self) -> str:
        return self.concern.icon

    @property
    def why(self) -> str:
        return self.concern.why

    @property
    def link(self) -> str:
        return self.concern.link


def survey(keys: GatewayKeyQuerySet, now: datetime, concerns: Sequence[Concern]) -> list[Found]:
    """Return what is found of each concern among `keys`: the counts in one query, and one for each that is found."""
    usable = keys.usable(now)
    counted = {one.slug: Count("pk", filter=(one.joined or one.condition)(now)) for one in concerns}
    counts = usable.aggregate(**counted)
    return [Found(concern, counts[concern.slug], _named(usable, concern, counts, now)) for concern in concerns]


def concerned(keys: GatewayKeyQuerySet, slug: str, now: datetime) -> GatewayKeyQuerySet:
    """Narrow to keys, in whatever status, that the concern of this name fits."""
    return keys.filter(CONCERNS[slug].condition(now))


def _named(
    keys: GatewayKeyQuerySet, concern: Concern, counts: dict[str, int], now: datetime
) -> list[tuple[GatewayKey, str, SafeString | str]]:
    if not counts[concern.slug]:
        return []
    # The index of the newest keys, read backwards, finds the first oldest ones without sorting them all.
    first = keys.filter(concern.condition(now)).order_by(concern.first, "-pk")
    shown = first.with_metrics().select_related("consumer_group", "owner")[:NAMED]
    return [(key, reverse("admin:keys_gatewaykey_change", args=[key.pk]), concern.told(key, now)) for key in shown]


def _expiring(days: int) -> Callable[[datetime], Q]:
    return lambda now: Q(expires_at__gt=now, expires_at__lte=now + timedelta(days=days))


def _unused(now: datetime) -> Q:
    return unused_since(now - timedelta(days=UNUSED_DAYS))


def _unused_joined(now: datetime) -> Q:
    since = now - timedelta(days=UNUSED_DAYS)
    # `metrics` is a model of the usage house, reached by its name (design §10); a key without counts has none.
    unused = Q(metrics__last_used_at__isnull=True) | Q(metrics__last_used_at__lt=since)
    return unused & Q(created_at__lt=since)


def _never_used(now: datetime) -> Q:
    return never_used() & Q(created_at__lt=now - SETTLING)


def _never_used_joined(now: datetime) -> Q:
    return Q(metrics__last_used_at__isnull=True, created_at__lt=now - SETTLING)


def _made(key: GatewayKey, now: datetime) -> SafeString:
    return format_html('<span class="kt-quiet">made {}</span>', relative(key.created_at, now))


def _last_used(key: GatewayKey, now: datetime) -> SafeString:
    return moment(getattr(getattr(key, "metrics", None), "last_used_at", None), absent="never used", now=now)


def _owner(key: GatewayKey, now: datetime) -> SafeString:
    words = f"{key.owner} has left" if key.owner else "nobody"
    return format_html('<span class="kt-quiet">{}</span>', words)


def _broken(key: GatewayKey, now: datetime) -> str:
    return " ".join(breach.words for breach in breaches(key, rules_of(key.consumer_group), now))


CONCERNS: Final[dict[str, Concern]] = {
    concern.slug: concern
    for concern in (
        Concern(
            "expiring_7",
            "Expiring soon",
            "schedule",
            f"They stop working within {SOON_DAYS} days: rotate them, give them more time, or let them end.",
            _expiring(SOON_DAYS),
            "expires_at",
            lambda key, now: moment(key.expires_at, now=now),
            ("set-expiry",),
            f"Expiring within {SOON_DAYS} days",
        ),
        Concern(
            "expiring_30",
            f"Expiring within {LATER_DAYS} days",
            "event",
            "There is still time to ask their owners whether they are needed, and to plan their rotation.",
            _expiring(LATER_DAYS),
            "expires_at",
            lambda key, now: moment(key.expires_at, now=now),
            ("set-expiry",),
        ),
        Concern(
            "long_grace",
            "Long in grace",
            "hourglass_top",
            "An old value is still accepted for more than two days: end its grace when nobody uses it any more.",
            lambda now: Q(grace_until__gt=now + LONG_GRACE),
            "-grace_until",
            lambda key, now: moment(key.grace_until, now=now),
            ("end-grace",),
        ),
        Concern(
            "unused",
            f"Unused for {UNUSED_DAYS} days",
            "bedtime",
            "Nobody seems to need them: disable them, which can be taken back, and revoke them when nobody complains.",
            _unused,
            "created_at",
            _last_used,
            ("disable", "revoke"),
            joined=_unused_joined,
        ),
        Concern(
            "never_used",
            "Never used",
            "block",
            "Made more than a day ago, and no gateway has seen one of them: revoke what was never picked up.",
            _never_used,
            "created_at",
            _made,
            ("revoke", "disable"),
            joined=_never_used_joined,
        ),
        Concern(
            "breaches_policy",
            "Breaches policy",
            "policy_alert",
            "They were there before their policy became stricter, and were left: bring them into line with it.",
            lambda now: in_breach(Policies.load(), now),
            "created_at",
            _broken,
            ("align", "revoke"),
        ),
        Concern(
            "no_expiry",
            "Without expiry",
            "all_inclusive",
            "A leaked key of these works until somebody notices: give them an expiry.",
            lambda now: Q(expires_at__isnull=True),
            "created_at",
            _made,
            ("set-expiry",),
            "No expiry",
        ),
        Concern(
            "unscoped",
            "Unscoped",
            "public",
            "They are accepted for traffic of every group, so a leak reaches everything: scope each to its group.",
            lambda now: Q(consumer_group__isnull=True),
            "created_at",
            _made,
            ("scope",),
            "Unscoped (all groups)",
        ),
        Concern(
            "owner_left",
            "Owner left",
            "person_off",
            "Nobody answers for them, so nobody can say whether they are needed: give them another owner.",
            lambda now: without_owner(),
            "created_at",
            _owner,
            ("owner", "disable"),
            "Owner left, or nobody",
        ),
    )
}

"""Why a gateway key needs somebody's attention: one definition of each concern, for the hygiene page, the dashboard
and the list's filter. Only keys that are accepted now need any: what is over can do no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import CharField, Count, Q, QuerySet, Value
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.moments import moment, relative
from keys.breaches import breaches, in_breach
from keys.models import GatewayKey, GatewayKeyQuerySet, never_used, unused_since, without_owner
from keys.policy import Policies
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

type Named = list[tuple[GatewayKey, str, SafeString | str]]
type Told = Callable[[GatewayKey, Standpoint], SafeString | str]


@dataclass(frozen=True)
class Standpoint:
    """From where keys are looked at: an instant, and the policies of then, read when they are first asked for."""

    now: datetime

    @cached_property
    def policies(self) -> Policies:
        return Policies.load()

    @cached_property
    def broken(self) -> Q:
        """The condition on keys that break their policy."""
        return in_breach(self.policies, self.now)


@dataclass(frozen=True, slots=True)
class Concern:
    """A reason to look at a key.

    condition: on keys, from a standpoint. first: the field by which they are named. told: what is said of each beside
    its name. fixes: the bulk fixes that fit (keys/bulk.py), the best first. joined: the same condition by a join with
    the keys' figures, where it asks for them: quicker where all keys are gone through anyway to count several concerns.
    """

    slug: str
    title: str
    icon: str
    why: str
    condition: Callable[[Standpoint], Q]
    first: str
    told: Told
    fixes: tuple[str, ...]
    label: str = ""
    joined: Callable[[Standpoint], Q] | None = None

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
    keys: Named

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
    """Return what is found of each concern among `keys`: all counts in one query, all names in two."""
    usable, at = keys.usable(now), Standpoint(now)
    counted = {one.slug: Count("pk", filter=(one.joined or one.condition)(at)) for one in concerns}
    counts = usable.aggregate(**counted)
    named = _named(usable, [one for one in concerns if counts[one.slug]], at)
    return [Found(concern, counts[concern.slug], named[concern.slug]) for concern in concerns]


def concerned(keys: GatewayKeyQuerySet, slug: str, now: datetime) -> GatewayKeyQuerySet:
    """Narrow to keys, in whatever status, that the concern of this name fits."""
    return keys.filter(CONCERNS[slug].condition(Standpoint(now)))


def _named(keys: GatewayKeyQuerySet, concerns: Sequence[Concern], at: Standpoint) -> defaultdict[str, Named]:
    """Return the first keys of each concern, by its name."""
    named: defaultdict[str, Named] = defaultdict(list)
    if not concerns:
        return named
    firsts = [_first(keys, concern, at) for concern in concerns]
    slugs: defaultdict[UUID, list[str]] = defaultdict(list)
    for slug, pk in firsts[0].union(*firsts[1:], all=True):
        slugs[pk].append(slug)
    found = keys.model.objects.with_metrics().select_related("consumer_group", "owner").filter(pk__in=slugs)
    newest = sorted(found, key=lambda key: key.pk, reverse=True)
    for concern in concerns:
        theirs = [key for key in newest if concern.slug in slugs[key.pk]]
        theirs.sort(key=attrgetter(concern.first.removeprefix("-")), reverse=concern.first.startswith("-"))
        named[concern.slug] = [(key, _page_of(key), concern.told(key, at)) for key in theirs]
    return named


def _first(keys: GatewayKeyQuerySet, concern: Concern, at: Standpoint) -> QuerySet[Any, tuple[str, UUID]]:
    """Return the query for the concern's name with the id of each of its first keys."""
    # The index of the newest keys, read backwards, finds the first oldest ones without sorting them all.
    first = keys.filter(concern.condition(at)).order_by(concern.first, "-pk").values("pk")[:NAMED]
    rows = keys.model.objects.order_by().filter(pk__in=first)
    return rows.annotate(slug=Value(concern.slug, output_field=CharField())).values_list("slug", "pk")


def _page_of(key: GatewayKey) -> str:
    return reverse("admin:keys_gatewaykey_change", args=[key.pk])


def _expiring(days: int) -> Callable[[Standpoint], Q]:
    return lambda at: Q(expires_at__gt=at.now, expires_at__lte=at.now + timedelta(days=days))


def _unused(at: Standpoint) -> Q:
    return unused_since(at.now - timedelta(days=UNUSED_DAYS))


def _unused_joined(at: Standpoint) -> Q:
    since = at.now - timedelta(days=UNUSED_DAYS)
    # `metrics` is a model of the usage house, reached by its name (design §10); a key without counts has none.
    unused = Q(metrics__last_used_at__isnull=True) | Q(metrics__last_used_at__lt=since)
    return unused & Q(created_at__lt=since)


def _never_used(at: Standpoint) -> Q:
    return never_used() & Q(created_at__lt=at.now - SETTLING)


def _never_used_joined(at: Standpoint) -> Q:
    return Q(metrics__last_used_at__isnull=True, created_at__lt=at.now - SETTLING)


def _made(key: GatewayKey, at: Standpoint) -> SafeString:
    return format_html('<span class="kt-quiet">made {}</span>', relative(key.created_at, at.now))


def _last_used(key: GatewayKey, at: Standpoint) -> SafeString:
    return moment(getattr(getattr(key, "metrics", None), "last_used_at", None), absent="never used", now=at.now)


def _owner(key: GatewayKey, at: Standpoint) -> SafeString:
    words = f"{key.owner} has left" if key.owner else "nobody"
    return format_html('<span class="kt-quiet">{}</span>', words)


def _broken(key: GatewayKey, at: Standpoint) -> str:
    return " ".join(breach.words for breach in breaches(key, at.policies.of(key), at.now))


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
            lambda key, at: moment(key.expires_at, now=at.now),
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
            lambda key, at: moment(key.expires_at, now=at.now),
            ("set-expiry",),
        ),
        Concern(
            "long_grace",
            "Long in grace",
            "hourglass_top",
            "An old value is still accepted for more than two days: end its grace when nobody uses it any more.",
            lambda at: Q(grace_until__gt=at.now + LONG_GRACE),
            "-grace_until",
            lambda key, at: moment(key.grace_until, now=at.now),
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
            lambda at: at.broken,
            "created_at",
            _broken,
            ("align", "revoke"),
        ),
        Concern(
            "no_expiry",
            "Without expiry",
            "all_inclusive",
            "A leaked key of these works until somebody notices: give them an expiry.",
            lambda at: Q(expires_at__isnull=True),
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
            lambda at: Q(consumer_group__isnull=True),
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
            lambda at: without_owner(),
            "created_at",
            _owner,
            ("owner", "disable"),
            "Owner left, or nobody",
        ),
    )
}

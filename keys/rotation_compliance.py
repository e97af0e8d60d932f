"""Rotation compliance: which values are older than they may get, how many were rotated each month, and how every group
keeps to it. How old a value may get is the longest lifetime that the policy allows its key, else the days asked for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from django.db.models import Case, Count, F, IntegerField, Q, Value, When

from access.models import Member
from audit.actions import AuditAction
from audit.csv_cells import Column, Kind
from audit.exports import Export
from keys.access_review import GroupManagers, Row, by_group, reviewed, shown, since
from keys.csv_export import status_at
from keys.models import MOST_DAYS, ConsumerGroup, GatewayKeyQuerySet, KeyVersion
from keys.policy import Policies, rules_of

DAYS: Final = 90
MONTHS: Final = 12
NAMED: Final = 200


@dataclass(frozen=True, slots=True)
class Month:
    """Rotations of one month in UTC. share: of the busiest month's, 0..100."""

    start: datetime
    rotations: int
    share: int


@dataclass(frozen=True, slots=True)
class RotationCompliance:
    """What the page and the JSON say. days: how old a value may get where no policy says; keys: the oldest first."""

    at: datetime
    days: int
    group: ConsumerGroup | None
    total: int
    overdue: int
    groups: list[Row]
    months: list[Month]
    keys: list[Row]

    @property
    def compliant(self) -> float | None:
        return compliant(self.total, self.overdue)


def rotation_compliance(
    member: Member, now: datetime, days: int = DAYS, group: ConsumerGroup | None = None
) -> RotationCompliance:
    """Return the report of what `member` sees."""
    keys, limits = rotated(member, now, group), Limits.load(days)
    late = limits.overdue(now)
    per_group = by_group(keys, limits.policies, keys=Count("pk"), overdue=Count("pk", filter=late))
    groups: list[Row] = [{**row, "compliant": compliant(row["keys"], row["overdue"])} for row in per_group]
    oldest = keys.filter(late).order_by(F("current__created_at"), "pk").values_list("pk", flat=True)
    ids = list(oldest[:NAMED])
    rows = {row["id"]: row for row in shown(keys.filter(pk__in=ids), key_columns(now, limits))}
    return RotationCompliance(
        at=now,
        days=days,
        group=group,
        total=sum(row["keys"] for row in groups),
        overdue=sum(row["overdue"] for row in groups),
        groups=groups,
        months=_months(member, now, group),
        keys=[rows[key_id] for key_id in ids if key_id in rows],
    )


def compliant(keys: int, overdue: int) -> float | None:
    """Return the share of keys whose value is not too old, in percent; None where there are none."""
    # Rounded down: 100 % is said only where there is nothing left to do.
    return int((keys - overdue) * 1_000 / keys) / 10 if keys else None


def rotated(member: Member, now: datetime, group: ConsumerGroup | None = None) -> GatewayKeyQuerySet:
    """Return the keys that are accepted now, of those that `member` sees.

    A disabled key cannot be rotated, and nobody uses it.
    """
    return reviewed(member, now, group).usable(now)


@dataclass(frozen=True, slots=True)
class Limits:
    """How old a value may get, in days: by group, and for keys of all others and of none. policies: that say so."""

    unscoped: int
    groups: dict[int, list[int]]
    policies: Policies

    @classmethod
    def load(cls, days: int) -> Limits:
        """Read the policies; days: where none of them says."""
        policies = Policies.load()
        longest = rules_of(None, policies.installation).max_lifetime
        unscoped = longest.value if longest else days
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for group in policies.groups.values():
            limit = rules_of(group, policies.installation).max_lifetime
            allowed = limit.value if limit else days
            if allowed != unscoped:
                groups[allowed].append(group.pk)
        return cls(unscoped, dict(groups), policies)

    def overdue(self, now: datetime) -> Q:
        """Return the condition on keys, as `reviewed` gives them, whose value is older than it may get."""
        special = Q(consumer_group__in=[pk for some in self.groups.values() for pk in some])
        late = (Q(consumer_group__isnull=True) | ~special) & _older(self.unscoped, now)
        for days, some in self.groups.items():
            late |= Q(consumer_group__in=some) & _older(days, now)
        return late

    def allowed(self) -> Case:
        """Return how old the value of a key may get, in days, in the query."""
        special = (When(consumer_group__in=some, then=Value(days)) for days, some in self.groups.items())
        return Case(*special, default=Value(self.unscoped), output_field=IntegerField())


def key_export(now: datetime, limits: Limits) -> Export:
    """Return the file of every key that is accepted, overdue or not."""
    filename = f"rotation-compliance-{now:%Y-%m-%d}.csv"
    columns = key_columns(now, limits)
    return Export(
        AuditAction.REPORT_PRODUCED, "report", filename, columns, "rotation-compliance", "Rotation compliance"
    )


def key_columns(now: datetime, limits: Limits) -> tuple[Column, ...]:
    """Return the columns, of a query as `rotated` gives it."""
    return (
        Column("id", Kind.NUMBER),
        Column("name", Kind.TEXT),
        Column("hint", Kind.WORD),
        Column("status", Kind.WORD, status_at(now)),
        Column("consumer_group", Kind.WORD, "consumer_group__slug"),
        Column("managers", Kind.TEXT, GroupManagers(F("consumer_group_id"))),
        Column("owner", Kind.TEXT, "owner__username"),
        Column("version", Kind.NUMBER, "current__number"),
        Column("value_set_at", Kind.INSTANT, "current__created_at"),
        Column("value_age_days", Kind.DAYS, since("current__created_at", now)),
        Column("allowed_days", Kind.NUMBER, limits.allowed()),
        Column("overdue", Kind.WORD, Case(When(limits.overdue(now), then=Value("true")), default=Value("false"))),
        Column("last_used_at", Kind.INSTANT, "metrics__last_used_at"),
        Column("expires_at", Kind.INSTANT),
    )


def _older(days: int, now: datetime) -> Q:
    return Q(current__created_at__lt=now - timedelta(days=min(days, MOST_DAYS)))


def _months(member: Member, now: datetime, group: ConsumerGroup | None) -> list[Month]:
    """Return the rotations of each of the last months, this one included, the oldest first."""
    starts = [datetime(*divmod_month(now, back), 1, tzinfo=UTC) for back in reversed(range(MONTHS))]
    versions = member.visible(KeyVersion.objects.filter(number__gt=1, created_at__gte=starts[0]))
    versions = versions.filter(key__consumer_group=group) if group is not None else versions
    # How many since the begin of each month: quicker than to cut the time of every version to its month.
    since_each = {f"month_{n}": Count("pk", filter=Q(created_at__gte=start)) for n, start in enumerate(starts)}
    since_then = [*versions.aggregate(**since_each).values(), 0]
    each = [count - later for count, later in pairwise(since_then)]
    most = max(each) or 1
    return [Month(start, count, round(100 * count / most)) for start, count in zip(starts, each, strict=True)]


def divmod_month(now: datetime, back: int) -> tuple[int, int]:
    """Return the year and the month so many months before that of `now`, in UTC."""
    year, month = divmod(now.astimezone(UTC).year * 12 + now.astimezone(UTC).month - 1 - back, 12)
    return year, month + 1

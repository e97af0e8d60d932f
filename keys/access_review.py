"""The access review: who holds which gateway key, how old it is, when it was last used, and what it breaks; and who is
in the team, with which access keys. A reviewer goes through it, and signs.

The number of its queries is the same however many keys there are; the file of all is streamed (audit/exports.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from django.db.models import (
    Case,
    CharField,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    FilteredRelation,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.expressions import Combinable, Func
from django.db.models.functions import Coalesce, Concat, Trim

from access.models import Member
from audit.actions import AuditAction
from audit.csv_cells import Column, Kind
from audit.exports import Export
from keys.breaches import BreachKind, any_of, breaking, live
from keys.csv_export import SYSTEM, status_at
from keys.models import ConsumerGroup, GatewayKey, GatewayKeyQuerySet, KeyVersion, without_owner
from keys.policy import Policies

# So many keys the page and the JSON name; the file has all.
NAMED: Final = 200
# What the report says of each group.
PER_GROUP: Final = {"consumer_group__slug", "consumer_group__name", "managers", "keys", "in_breach"}

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AccessReview:
    """What the page and the JSON say. group: of which alone. keys: the first NAMED, what breaks a policy first."""

    at: datetime
    group: ConsumerGroup | None
    totals: dict[str, int]
    breaches: dict[str, int]
    groups: list[Row]
    keys: list[Row]
    members: list[Row] | None


def access_review(member: Member, now: datetime, group: ConsumerGroup | None = None) -> AccessReview:
    """Return the review of what `member` sees; the team only for whom the rule book shows it to."""
    keys, policies = reviewed(member, now, group), Policies.load()
    kinds = breaking(policies, now)
    broken = any_of(kinds)
    counted = {
        "keys": Count("pk"),
        "disabled": Count("pk", filter=Q(disabled_at__isnull=False)),
        "no_expiry": Count("pk", filter=Q(expires_at__isnull=True)),
        "never_used": Count("pk", filter=Q(metrics__last_used_at__isnull=True)),
        "owner_left": Count("pk", filter=without_owner()),
        "in_breach": Count("pk", filter=broken),
    }
    by_kind = {kind.value: Count("pk", filter=condition) for kind, condition in kinds.items()}
    # All keys are gone through once: what is counted of all is the sum over the groups.
    groups = by_group(keys, policies, **counted, **by_kind)
    totals = {name: sum(row[name] for row in groups) for name in counted}
    totals["unscoped"] = sum(row["keys"] for row in groups if row["consumer_group__slug"] is None)
    ids = _first(keys, broken, totals)
    rows = {row["id"]: row for row in shown(keys.filter(pk__in=ids), key_columns(now, kinds))}
    return AccessReview(
        at=now,
        group=group,
        totals=totals,
        breaches={name: sum(row[name] for row in groups) for name in by_kind},
        groups=[{name: cell for name, cell in row.items() if name in PER_GROUP} for row in groups],
        keys=[rows[key_id] for key_id in ids if key_id in rows],
        members=shown(team(now), TEAM_COLUMNS) if member.may("access.review_member") else None,
    )


def by_group(keys: GatewayKeyQuerySet, policies: Policies, /, **counted: Count) -> list[Row]:
    """Return a row for each group that has some of `keys`, by name, unscoped ones first: what is counted of it.

    The names come from `policies`, and not by a join with every key.
    """
    members = ConsumerGroup.managers.through.objects.order_by("member__username")
    managers: defaultdict[int, list[str]] = defaultdict(list)
    for group_id, username in members.values_list("consumergroup", "member__username"):
        managers[group_id].append(username)
    rows = []
    counts: Iterable[Any] = keys.order_by().values("consumer_group").annotate(**counted)
    for row in counts:
        group = policies.groups.get(row.pop("consumer_group"))
        names = {
            "consumer_group__slug": group.slug if group else None,
            "consumer_group__name": group.name if group else None,
        }
        rows.append({**names, "managers": " ".join(managers[group.pk]) or None if group else None, **row})
    return sorted(rows, key=lambda row: (row["consumer_group__name"] is not None, row["consumer_group__name"] or ""))


def _first(keys: GatewayKeyQuerySet, broken: Q, totals: dict[str, int]) -> list[UUID]:
    """Return the ids of the first NAMED keys, those that break a policy first; two lists, each in an index's order."""
    in_order = keys.order_by("name", "pk").values_list("pk", flat=True)
    first = list(in_order.filter(broken)[:NAMED]) if totals["in_breach"] else []
    return first + list(in_order.exclude(pk__in=first)[: NAMED - len(first)])


def reviewed(member: Member, now: datetime, group: ConsumerGroup | None = None) -> GatewayKeyQuerySet:
    """Return the keys that give access, of those that `member` sees; with their current version as `current`.

    That is what can still be accepted, now or once it is enabled: what is over gives nobody access.
    """
    keys = cast("GatewayKeyQuerySet", member.visible(GatewayKey.objects.filter(live(now))))
    keys = keys.filter(consumer_group=group) if group is not None else keys
    return keys.annotate(current=FilteredRelation("versions", condition=Q(versions__valid_until__isnull=True)))


def key_export(now: datetime) -> Export:
    """Return the file of reviewed keys."""
    columns = key_columns(now, breaking(Policies.load(), now))
    filename = f"access-review-{now:%Y-%m-%d}.csv"
    return Export(AuditAction.REPORT_PRODUCED, "report", filename, columns, "access-review", "Access review")


def key_columns(now: datetime, kinds: Mapping[BreachKind, Q]) -> tuple[Column, ...]:
    """Return the columns, of a query as `reviewed` gives it. kinds: what `breaking` has returned."""
    return (
        Column("id", Kind.NUMBER),
        Column("name", Kind.TEXT),
        Column("hint", Kind.WORD),
        Column("status", Kind.WORD, status_at(now)),
        Column("consumer_group", Kind.WORD, "consumer_group__slug"),
        Column("managers", Kind.TEXT, GroupManagers(F("consumer_group_id"))),
        Column("owner", Kind.TEXT, "owner__username"),
        Column("owner_active", Kind.WORD, _yes_or_no("owner__is_active")),
        Column("created_by", Kind.TEXT, Coalesce("created_by__username", SYSTEM)),
        Column("created_at", Kind.INSTANT),
        Column("age_days", Kind.DAYS, since("created_at", now)),
        Column("expires_at", Kind.INSTANT),
        Column("last_used_at", Kind.INSTANT, "metrics__last_used_at"),
        Column("version", Kind.NUMBER, "current__number"),
        Column("last_rotated_at", Kind.INSTANT, Case(When(current__number__gt=1, then=F("current__created_at")))),
        Column("value_age_days", Kind.DAYS, since("current__created_at", now)),
        Column("versions_in_grace", Kind.NUMBER, _versions_in_grace(now)),
        Column("allowed_networks", Kind.LIST),
        Column("policy_breaches", Kind.WORD, _told(kinds)),
    )


def shown(rows: QuerySet[Any], columns: tuple[Column, ...]) -> list[Row]:
    """Return the cells of `rows` by the names of their columns, for a page; nothing is disarmed there."""
    found = rows.values_list(*(column.expression for column in columns))
    names = [column.name for column in columns]
    return [dict(zip(names, map(_in_days, cells), strict=True)) for cells in found]


def _in_days(cell: Any) -> Any:
    return cell.days if isinstance(cell, timedelta) else cell


def since(field: str, now: datetime) -> Combinable:
    """Return how long ago `field` is, in the query."""
    return ExpressionWrapper(Value(now) - F(field), output_field=DurationField())


class GroupManagers(Func):
    """The usernames of a group's managers, with spaces between them; nothing where it names none."""

    output_field = CharField()

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **__: Any) -> tuple[str, tuple[Any, ...]]:
        sql, params = compiler.compile(self.source_expressions[0])
        joined = "string_agg" if connection.vendor == "postgresql" else "group_concat"
        through, members = ConsumerGroup.managers.through._meta.db_table, Member._meta.db_table
        named = (
            f"SELECT m.username FROM {members} m JOIN {through} t ON t.member_id = m.id "  # noqa: S608  # our own names
            f"WHERE t.consumergroup_id = {sql} ORDER BY m.username"
        )
        return f"(SELECT {joined}(username, ' ') FROM ({named}) managers)", tuple(params)  # noqa: S608  # the same


def team(now: datetime) -> QuerySet[Member]:
    """Return every member with each of their access keys that may be used, a row for each; one without has a row."""
    usable = Q(access_keys__revoked_at__isnull=True) & (
        Q(access_keys__expires_at__isnull=True) | Q(access_keys__expires_at__gt=now)
    )
    members: QuerySet[Member] = Member.objects.annotate(usable=FilteredRelation("access_keys", condition=usable))
    # True of all of them, and so the join is made also where rows are only counted.
    return members.filter(Q(usable__revoked_at__isnull=True)).order_by("username", F("usable__created_at"))


TEAM_COLUMNS: Final = (
    Column("username", Kind.TEXT),
    Column("name", Kind.TEXT),
    Column("role", Kind.WORD),
    Column("active", Kind.WORD, Case(When(is_active=True, then=Value("true")), default=Value("false"))),
    Column("joined_at", Kind.INSTANT, "date_joined"),
    Column("last_sign_in_at", Kind.INSTANT, "last_login"),
    Column("access_key", Kind.TEXT, "usable__name"),
    Column("access_key_hint", Kind.WORD, "usable__hint"),
    Column("access_key_created_at", Kind.INSTANT, "usable__created_at"),
    Column("access_key_expires_at", Kind.INSTANT, "usable__expires_at"),
    Column("access_key_last_used_at", Kind.INSTANT, "usable__last_used_at"),
)


def team_export(now: datetime) -> Export:
    """Return the file of members and their access keys."""
    filename = f"access-review-team-{now:%Y-%m-%d}.csv"
    return Export(AuditAction.REPORT_PRODUCED, "report", filename, TEAM_COLUMNS, "access-review", "Access review: team")


def _yes_or_no(field: str) -> Case:
    return Case(When(**{field: True}, then=Value("true")), When(**{field: False}, then=Value("false")))


def _versions_in_grace(now: datetime) -> Combinable:
    older = KeyVersion.objects.filter(key=OuterRef("pk"), valid_until__gt=now).order_by()
    return Coalesce(Subquery(older.values("key").annotate(count=Count("pk")).values("count")), Value(0))


def _told(kinds: Mapping[BreachKind, Q]) -> Combinable:
    """Return the names of what a key breaks, with spaces between them."""
    told = [
        Case(When(broken, then=Value(f"{kind.value} ")), default=Value(""), output_field=CharField())
        for kind, broken in kinds.items()
    ]
    return Trim(Concat(*told, output_field=CharField()))

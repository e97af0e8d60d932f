"""Which groups and keys a Manager sees and manages (design §7).

A group that names managers is managed by them alone (and Admins), one that names none by every Manager. An unscoped
key reaches every group, so only who may manage every group may manage it; every Manager it concerns may see it.
Who comes with an access key of chosen groups (access/limits.py) sees and manages no more than the keys of these.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, Func, OuterRef, Q, QuerySet, UUIDField
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.sql.compiler import SQLCompiler

from access.models import Member
from access.rules import Role, object_rule, visibility_rule
from audit.actor import ActorKind
from audit.models import AuditEntry
from keys.models import ConsumerGroup, GatewayKey, KeyVersion


def managed_groups(member: Member) -> QuerySet[ConsumerGroup]:
    """Return the groups whose keys a Manager may see and manage."""
    return ConsumerGroup.objects.filter(_managed_by(member))


def manages_group(member: Member, group: ConsumerGroup | None) -> bool:
    """Say whether keys of `group` are this member's to change; None asks for unscoped keys: every group."""
    if not member.limits.cover(group.pk if group is not None else None):
        return False
    if member.role == Role.ADMIN:
        return True
    if member.role != Role.MANAGER:
        return False
    if group is None:
        return not ConsumerGroup.objects.exclude(pk__in=managed_groups(member)).exists()
    return managed_groups(member).filter(pk=group.pk).exists()


def manages_all(member: Member, group_ids: Collection[int | None]) -> dict[int | None, bool]:
    """Return, for each of these groups (None: unscoped), what `manages_group` says, in one query for all."""
    cover = member.limits.cover
    if member.role != Role.MANAGER:
        return {group_id: member.role == Role.ADMIN and cover(group_id) for group_id in group_ids}
    managed = dict(ConsumerGroup.objects.order_by().annotate(theirs=_managed_by(member)).values_list("pk", "theirs"))
    everywhere = all(managed.values())
    theirs = {group_id: everywhere if group_id is None else managed.get(group_id, False) for group_id in group_ids}
    return {group_id: cover(group_id) and yes for group_id, yes in theirs.items()}


def _managed_by(member: Member) -> Q:
    """Return the condition on groups that a Manager is named by, or that name nobody."""
    managers = ConsumerGroup.managers.through.objects.filter(consumergroup=OuterRef("pk"))
    return ~Exists(managers) | Exists(managers.filter(member=member))


def seen_groups(member: Member) -> QuerySet[ConsumerGroup]:
    """Return the groups whose keys a member sees."""
    groups = managed_groups(member) if member.role == Role.MANAGER else ConsumerGroup.objects.all()
    limits = member.limits
    return groups if limits.group_ids is None else groups.filter(pk__in=limits.group_ids)


def sees_every_key(member: Member) -> bool:
    """Say whether no key, and nothing that belongs to one, is hidden from this member."""
    return member.role != Role.MANAGER and member.limits.group_ids is None


@visibility_rule(ConsumerGroup)
def visible_groups(member: Member, queryset: QuerySet[ConsumerGroup]) -> QuerySet[ConsumerGroup]:
    return queryset if sees_every_key(member) else queryset.filter(pk__in=seen_groups(member).values("pk"))


def reachable_keys(member: Member, prefix: str = "") -> Q:
    """Return the condition for rows that belong, through `prefix`, to a key which a member sees."""
    if sees_every_key(member):
        return Q()
    groups = seen_groups(member).values("pk")
    unscoped = Q(**{f"{prefix}consumer_group__isnull": True}) if member.limits.cover(None) else Q()
    return Q(**{f"{prefix}consumer_group__any_of": groups}) | unscoped


class AnyOf(RelatedIn):
    """IN, for a subquery with few rows, which PostgreSQL looks up in an index.

    Of IN (SELECT …) beside an OR it believes that half of the table fits, and goes through all of it.
    """

    lookup_name = "any_of"

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        group, of_group = self.process_lhs(compiler, connection)
        groups, of_groups = self.process_rhs(compiler, connection)
        return f"{group} = ANY(ARRAY{groups})", (*of_group, *of_groups)


models.ForeignKey.register_lookup(AnyOf)


@visibility_rule(GatewayKey)
def visible_keys(member: Member, queryset: QuerySet[GatewayKey]) -> QuerySet[GatewayKey]:
    return queryset.filter(reachable_keys(member))


@visibility_rule(KeyVersion)
def visible_versions(member: Member, queryset: QuerySet[KeyVersion]) -> QuerySet[KeyVersion]:
    return queryset.filter(reachable_keys(member, "key__"))


@object_rule(GatewayKey)
def may_touch_key(member: Member, permission: str, key: GatewayKey) -> bool:
    if permission in {"keys.view_gatewaykey", "keys.export_gatewaykey"}:
        return member.visible(GatewayKey.objects.filter(pk=key.pk)).exists()
    return manages_group(member, key.consumer_group)


@visibility_rule(AuditEntry)
def visible_entries(member: Member, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """A Manager reads their own actions, and all about the keys they manage."""
    if sees_every_key(member):
        return queryset
    own = Q(actor_kind=ActorKind.MEMBER.value, actor_id=str(member.pk))
    # Asked for each entry, newest first: the ids of all keys they see would have to be written out before the first.
    keys = member.visible(GatewayKey.objects.filter(pk=KeyOfEntry(OuterRef("object_type"), OuterRef("object_id"))))
    theirs = Q(Exists(keys), object_type="gateway_key")
    return queryset.filter(own | theirs if member.limits.group_ids is None else theirs)


class KeyOfEntry(Func):
    """The id of the key that an audit entry is about, as the table of keys has it; nothing where it is about none.

    The log writes it with dashes; SQLite's table keeps it as 32 digits.
    """

    output_field = UUIDField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, tuple[Any, ...]]:
        return self._sql(compiler, "({})::uuid")

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, tuple[Any, ...]]:
        return self._sql(compiler, "replace({}, '-', '')")

    def _sql(self, compiler: SQLCompiler, key: str) -> tuple[str, tuple[Any, ...]]:
        (kind, of_kind), (text, of_text) = (compiler.compile(source) for source in self.source_expressions)
        sql = f"CASE WHEN {kind} = 'gateway_key' AND length({text}) = 36 THEN {key.format(text)} END"
        return sql, (*of_kind, *of_text, *of_text)

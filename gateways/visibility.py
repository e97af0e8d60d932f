"""A Manager sees the gateways that serve a group of theirs: those limited to one, and those that serve all."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from access.models import Member
from access.rules import visibility_rule
from gateways.models import Gateway
from keys.visibility import seen_groups, sees_every_key


@visibility_rule(Gateway)
def visible_gateways(member: Member, queryset: QuerySet[Gateway]) -> QuerySet[Gateway]:
    if sees_every_key(member):
        return queryset
    limits = Gateway.consumer_groups.through.objects.filter(gateway=OuterRef("pk"))
    theirs = limits.filter(consumergroup__in=seen_groups(member).values("pk"))
    return queryset.filter(~Exists(limits) | Exists(theirs))

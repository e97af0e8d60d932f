"""A Manager, or an access key of chosen groups, sees the usage of the keys that they see.

Denials of unknown values belong to no key, so not those.
"""

from __future__ import annotations

from django.db.models import QuerySet

from access.models import Member
from access.rules import visibility_rule
from keys.visibility import reachable_keys, sees_every_key
from usage.models import UsageBucket, UsageEvent


@visibility_rule(UsageEvent)
def visible_events(member: Member, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
    if sees_every_key(member):
        return queryset
    return queryset.filter(reachable_keys(member, "key__"), key__isnull=False)


@visibility_rule(UsageBucket)
def visible_sums(member: Member, queryset: QuerySet[UsageBucket]) -> QuerySet[UsageBucket]:
    """Those of keys that the member sees now: each row names its key. Figures count by the group at the time."""
    if sees_every_key(member):
        return queryset
    return queryset.filter(reachable_keys(member, "version__key__"), version__isnull=False)

"""What members see and may do with access keys: their own; Admins see and may revoke everybody's.

Who comes with an access key of chosen groups sees that one alone.
"""

from __future__ import annotations

from django.db.models import QuerySet

from access.models import AccessKey, Member
from access.rules import Role, object_rule, visibility_rule


@visibility_rule(AccessKey)
def visible_access_keys(member: Member, queryset: QuerySet[AccessKey]) -> QuerySet[AccessKey]:
    if member.limits.group_ids is not None:
        return queryset.filter(pk__in=[member.limits.access_key_id])
    return queryset if member.role == Role.ADMIN else queryset.filter(owner=member)


@object_rule(AccessKey)
def may_touch_access_key(member: Member, permission: str, access_key: AccessKey) -> bool:
    if member.limits.group_ids is not None:
        return access_key.pk == member.limits.access_key_id
    if access_key.owner_id == member.pk:
        return True
    # Nobody, not even an Admin, makes a credential that acts in another's name.
    return member.role == Role.ADMIN and permission != "access.add_accesskey"

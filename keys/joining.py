"""A Manager who joins is named by the groups that were chosen for them at their invitation."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from access.models import Invitation
from access.rules import Role
from access.signals import joined
from audit.actor import Actor
from keys.groups import name_manager


@receiver(joined)
def name_in_groups(sender: object, *, invitation: Invitation, actor: Actor, **_: Any) -> None:
    """Name the member among the managers of the invitation's groups, unless their role became another one since."""
    if invitation.member.role == Role.MANAGER:
        for group_id in invitation.groups.order_by("pk").values_list("pk", flat=True):
            name_manager(actor=actor, group_id=group_id, member=invitation.member)

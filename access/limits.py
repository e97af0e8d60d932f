"""What an access key may be held to, beyond its owner's role: reading, and the keys of chosen consumer groups.

The limits travel on the member for as long as one request lasts, so that the rule book, which every door asks, is where
they hold (access/rules.py). What they do not speak of, they refuse: a new permission is nobody's until it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from access.models import AccessKey

# Verbs that change nothing. An export, a report and a verification are recorded, and read.
READING: Final = ("view_", "export_", "review_", "verify_")
# What a key of chosen groups may do, for objects of these groups alone. Of its own kind it sees itself.
WITHIN_GROUPS: Final = frozenset(
    {
        "keys.view_consumergroup",
        "keys.view_keyversion",
        # It holds for theirs, too, and says nothing of others.
        "keys.view_installationpolicy",
        "usage.view_usageevent",
        "usage.export_usageevent",
        "usage.view_usagebucket",
        "usage.export_usagebucket",
        "gateways.view_gateway",
        "audit.view_auditentry",
        "audit.export_auditentry",
        "access.view_accesskey",
        "access.revoke_accesskey",
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """group_ids: the only groups whose keys are seen and touched; None: as the role says."""

    access_key_id: UUID | None = None
    read_only: bool = False
    group_ids: frozenset[int] | None = None

    def allow(self, permission: str) -> bool:
        """Say whether these limits leave this permission to whom the role gives it."""
        _, _, verb = permission.partition(".")
        if self.read_only and not verb.startswith(READING):
            return False
        return self.group_ids is None or permission in WITHIN_GROUPS or permission.endswith("_gatewaykey")

    def cover(self, group_id: int | None) -> bool:
        """Say whether keys of this group are within the limits; None asks for unscoped keys: every group."""
        return self.group_ids is None or group_id in self.group_ids

    @property
    def narrow(self) -> bool:
        return self.read_only or self.group_ids is not None


NO_LIMITS: Final = Limits()


def limits_of(access_key: AccessKey) -> Limits:
    """Return what this access key is held to."""
    groups = None
    if access_key.limited_to_groups:
        groups = frozenset(access_key.consumer_groups.values_list("pk", flat=True))
    return Limits(access_key_id=access_key.pk, read_only=access_key.read_only, group_ids=groups)

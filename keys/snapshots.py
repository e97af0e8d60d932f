"""What a key is at one moment: what the audit log says of it, and the tag that stands for its state."""

from __future__ import annotations

from typing import Any, Final

from access.preconditions import tag_of
from audit import clock
from keys.models import GatewayKey

# Jobs set it back when it is over; the versions say the same of it.
TIDIED: Final = frozenset({"grace_until"})


def snapshot(key: GatewayKey) -> dict[str, Any]:
    """Return what the audit log says of a key: never anything that a value could be made from."""
    return {
        "name": key.name,
        "description": key.description,
        "consumer_group": key.consumer_group.slug if key.consumer_group else None,
        "consumer_group_id": key.consumer_group_id,
        "allowed_networks": list(key.allowed_networks),
        "owner": key.owner.username if key.owner else None,
        "owner_id": key.owner_id,
        "hint": key.hint,
        "expires_at": key.expires_at,
        "lifetime": key.lifetime,
        "disabled_at": key.disabled_at,
        "revoked_at": key.revoked_at,
        "revoke_reason": key.revoke_reason,
        "grace_until": key.grace_until,
    }


def state_tag(key: GatewayKey) -> str:
    """Return the tag of a key's state (access/preconditions.py). Its figures change all the time and are no part."""
    versions = list(key.versions.all())
    facts = {name: fact for name, fact in snapshot(key).items() if name not in TIDIED}
    facts |= {"id": key.pk, "versions": sorted((version.number, version.valid_until) for version in versions)}
    now = clock.now()
    accepted = sum(version.valid_until is None or version.valid_until > now for version in versions)
    return tag_of(facts, by_time=f"{key.status_at(now).value}-{accepted}")

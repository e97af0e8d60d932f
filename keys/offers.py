"""Which verbs the state of a key allows (design §5): for menus and buttons. The verbs themselves check again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from keys.models import GatewayKey
from keys.status import KeyStatus

VERBS: Final = ("edit", "rotate", "extend_grace", "end_grace", "disable", "enable", "revoke")
# The rule book's name of each verb.
PERMISSIONS: Final = {
    "edit": "keys.change_gatewaykey",
    "rotate": "keys.rotate_gatewaykey",
    "extend_grace": "keys.extend_grace_gatewaykey",
    "end_grace": "keys.end_grace_gatewaykey",
    "disable": "keys.disable_gatewaykey",
    "enable": "keys.enable_gatewaykey",
    "revoke": "keys.revoke_gatewaykey",
}


def possible_verbs(key: GatewayKey, at: datetime) -> list[str]:
    """Return the verbs that are no conflict for `key` at this instant, in the order of VERBS."""
    return [verb for verb in VERBS if not why_not(verb, key, at)]


def why_not(verb: str, key: GatewayKey, at: datetime) -> str:
    """Say in a sentence why the key's state does not allow `verb`; "" where it does."""
    status = key.status_at(at)
    if status is KeyStatus.REVOKED or (status is KeyStatus.EXPIRED and verb != "revoke"):
        return (
            "This key is revoked already." if verb == "revoke" else f"This key is {status}. Create a new one instead."
        )
    match verb:
        case "rotate" if status is KeyStatus.DISABLED:
            return "This key is disabled. Enable it first."
        case "end_grace" | "extend_grace" if key.grace_until is None or key.grace_until <= at:
            return "No older value of this key is accepted."
        case "disable" if status is KeyStatus.DISABLED:
            return "This key is disabled already."
        case "enable" if status is not KeyStatus.DISABLED:
            return "This key is not disabled."
        case _:
            return ""

"""Why a request is denied, in words."""

from __future__ import annotations

from typing import Final

# Why a request is denied, as gateways are told (design §8), and in words.
REASONS: Final = {
    "key_missing": "No key was given",
    "key_malformed": "That is no key",
    "key_unknown": "Unknown key",
    "key_expired": "The key has expired",
    "key_revoked": "The key is revoked",
    "key_disabled": "The key is disabled",
    "grace_over": "An old value, after its grace",
    "group_mismatch": "Traffic of another group",
    "gateway_not_allowed": "The gateway does not serve the key's group",
    "network_not_allowed": "From a network that is not allowed",
}

"""Values of ours in other people's text: a log, a dump of a repository, what a scanner has found.

A value is looked up by its digest alone, and nothing of it is kept or shown but its hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from access.access_keys import revoke_access_key
from access.models import AccessKey
from access.tokens import TokenKind, digest_of
from audit import clock
from audit.actor import Actor
from gateways.models import GatewayToken
from keys import lifecycle
from keys.models import KeyVersion
from keys.status import KeyStatus, VersionState

# Without word boundaries: whatever was written around a value, the value lets in. The checksum tells chance apart.
_VALUE: Final = re.compile(rb"(?=(kt_(?:gk|gt|ak)_[a-z0-9]{32}))")
_KINDS: Final = {kind.value.encode(): kind for kind in TokenKind}
# More than the longest way to write a value: every character two bytes (UTF-16), both underscores percent-encoded.
_TAIL: Final = 128


@dataclass(frozen=True, slots=True)
class Leak:
    """A known value that was found. id: of the key, access key or gateway. is_live: whether it lets in, or may again.

    detail: which version of the key, or whose access key it is.
    """

    kind: str
    id: UUID
    name: str
    hint: str
    status: str
    is_live: bool
    detail: str = ""


def find_leaks(parts: Iterable[bytes]) -> Iterator[Leak]:
    """Yield every known value in a stream of bytes, each once, wherever the parts were cut.

    Found are values in ASCII, UTF-8 and UTF-16, and with percent-encoded underscores. Memory grows with the number of
    different values of our shape alone.
    """
    seen: set[bytes] = set()
    tail = b""
    for part in parts:
        text = tail + part
        tail = text[-_TAIL:]
        found = {digest: kind for digest, kind in _digests(text) if digest not in seen}
        seen |= found.keys()
        for kind in TokenKind:
            yield from _known(kind, [digest for digest, its_kind in found.items() if its_kind is kind])


def revoke_leak(leak: Leak, *, actor: Actor, reason: str) -> bool:
    """Revoke what was found, at once, with an entry in the audit log; False for a gateway's token.

    A gateway without a token refuses everything: its token is rotated, by who can give it the new one.
    Errors: ValidationError at `reason`; Forbidden.
    """
    match leak.kind:
        case "gateway key":
            lifecycle.revoke(actor=actor, key_id=leak.id, reason=reason)
        case "access key":
            revoke_access_key(actor=actor, access_key_id=leak.id)
        case _:
            return False
    return True


def _digests(text: bytes) -> Iterator[tuple[bytes, TokenKind]]:
    for way in {text, text.replace(b"\0", b"")}:
        plain = way.replace(b"%5F", b"_").replace(b"%5f", b"_")
        for match in _VALUE.finditer(plain):
            kind = _KINDS[match[1][:6]]
            digest = digest_of(match[1], kind)
            if digest is not None:
                yield digest, kind


def _known(kind: TokenKind, digests: list[bytes]) -> Iterator[Leak]:
    now = clock.now()
    match kind:
        case TokenKind.GATEWAY_KEY:
            for version in KeyVersion.objects.filter(digest__in=digests).select_related("key").order_by("id"):
                yield _gateway_key(version, now)
        case TokenKind.ACCESS_KEY:
            for key in AccessKey.objects.filter(digest__in=digests).select_related("owner").order_by("created_at"):
                status = key.status(now)
                live = status == "active" and key.owner.is_active
                yield Leak("access key", key.pk, key.name, key.hint, status, live, f"of {key.owner.username}")
        case TokenKind.GATEWAY_TOKEN:
            for token in GatewayToken.objects.filter(digest__in=digests).select_related("gateway").order_by("id"):
                live = token.is_usable(now)
                status = "accepted" if live else "over"
                yield Leak("gateway token", token.gateway.pk, token.gateway.name, token.hint, status, live)


def _gateway_key(version: KeyVersion, now: datetime) -> Leak:
    status, state = version.key.status_at(now), version.state_at(now)
    # A disabled key may be enabled again, and would then be accepted with this value.
    live = status not in {KeyStatus.REVOKED, KeyStatus.EXPIRED} and state is not VersionState.CLOSED
    detail = f"version {version.number}, {state.value}"
    return Leak("gateway key", version.key_id, version.key.name, version.hint, status.value, live, detail)

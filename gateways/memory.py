"""What a process holds of gateways, groups and keys, to decide without asking the database.

Whether it may be used now, its lease decides (gateways/lease.py); here is only what was learnt and what became of it.
Used on one event loop.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import islice
from typing import Final
from uuid import UUID

from gateways.decision import KnownGateway, KnownGroup, KnownVersion, Question, Reason
from gateways.lookup import Found
from keys.narrowing import Fact, Kind

# Values and tokens that are nobody's: who tries many must not push out what is held of others.
MOST_UNKNOWN: Final = 10_000
# After so many more versions the garbage collector is told to leave alone what is there: to walk through a million of
# them would keep every decision waiting for half a second, and there is no cycle among them to be found.
LEFT_ALONE_EVERY: Final = 20_000


class Memory:
    """Bounded; the oldest goes first. most_versions: how many key versions are held at most.

    Keys point at their group's one object: other networks of a group are one change, however many keys it has.
    """

    def __init__(self, most_versions: int) -> None:
        self._most_versions = most_versions
        # A fill that was under way when something became out of date may bring just that: it is known by this number.
        self.generation = 0
        self._gateways: dict[bytes, KnownGateway] = {}
        self._versions: dict[bytes, KnownVersion] = {}
        # By the text of the key's id, which the key holds already.
        self._digests: dict[bytes, bytes | tuple[bytes, ...]] = {}
        self._groups: dict[int, KnownGroup] = {}
        self._unknown: dict[bytes, None] = {}
        self._left_alone_at = LEFT_ALONE_EVERY

    def __len__(self) -> int:
        return len(self._versions)

    def recall(self, question: Question) -> Found | None:
        """Return what is held of gateway and key; None where the database must be asked."""
        token, key = question.gateway_token, question.key
        if token is None:
            return Found(None, None)
        gateway = self._gateways.get(token)
        if gateway is None:
            return Found(None, None) if token in self._unknown else None
        if isinstance(key, Reason):
            return Found(gateway, None)
        version = self._versions.get(key)
        if version is None:
            return Found(gateway, None) if key in self._unknown else None
        group = version.key.group
        return Found(gateway, version) if group is None or group.is_current else None

    def learn(self, generation: int, question: Question, found: Found) -> None:
        """Hold what the database knew. generation: what it was before the database was asked."""
        token, key = question.gateway_token, question.key
        if generation != self.generation or token is None:
            return None
        if found.gateway is None:
            return self._hold_unknown(token)
        self._gateways[token] = found.gateway
        if isinstance(key, Reason):
            return None
        return self._hold_unknown(key) if found.version is None else self._hold(key, found.version)

    def apply(self, fact: Fact) -> None:
        """Hold no longer what is out of date."""
        self.generation += 1
        # What was nobody's may be somebody's now.
        self._unknown.clear()
        match fact.kind:
            case Kind.KEY:
                self._drop_key(fact.id.encode())
            case Kind.GROUP:
                if (group := self._groups.get(int(fact.id))) is not None:
                    group.is_current = False
            case Kind.POLICY:
                # The installation's networks are held with each gateway.
                self._gateways.clear()
            case Kind.GATEWAY:
                self._gateways = {
                    token: gateway for token, gateway in self._gateways.items() if gateway.id != UUID(fact.id)
                }
            case _:
                # A later release's word, which may mean anything.
                self.clear()

    def clear(self) -> None:
        """Hold nothing, and nothing of what is being asked for."""
        self.generation += 1
        for held in (self._gateways, self._versions, self._digests, self._groups, self._unknown):
            held.clear()

    def _hold(self, digest: bytes, version: KnownVersion) -> None:
        key = version.key
        if key.group is not None:
            group = self._groups.setdefault(key.group.id, key.group)
            group.networks, group.is_current = key.group.networks, True
            version = replace(version, key=replace(key, group=group))
        if digest not in self._versions:
            if len(self._versions) >= self._most_versions:
                self._make_room()
            digests = self._digests.get(key.public_id)
            # Nearly every key has one version: a tuple for each would cost as much as its digest.
            self._digests[key.public_id] = digest if digests is None else (*_many(digests), digest)
        self._versions[digest] = version
        if len(self._versions) >= self._left_alone_at:
            # Only where there are more than ever before, and after a short look: garbage that is frozen, too, stays.
            self._left_alone_at += LEFT_ALONE_EVERY
            gc.collect(1)
            gc.freeze()

    def _make_room(self) -> None:
        # Some at once: to find the oldest takes long where those before it are gone already.
        some = max(1, self._most_versions // 1_000)
        for public_id in [version.key.public_id for version in islice(self._versions.values(), some)]:
            self._drop_key(public_id)

    def _hold_unknown(self, digest: bytes) -> None:
        if len(self._unknown) >= MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[digest] = None

    def _drop_key(self, public_id: bytes) -> None:
        digests = self._digests.pop(public_id, None)
        for digest in () if digests is None else _many(digests):
            del self._versions[digest]


def _many(digests: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return digests if isinstance(digests, tuple) else (digests,)

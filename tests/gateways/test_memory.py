"""What a process holds: found again, bounded, and gone when it is out of date, also while it is being asked for."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest

from gateways.decision import KnownGateway, KnownGroup, KnownKey, KnownVersion, Question, Reason
from gateways.lookup import Found
from gateways.memory import MOST_UNKNOWN, Memory
from keys.narrowing import Fact, Kind

pytestmark = pytest.mark.once

TOKEN = b"token of a gateway"
GATEWAY = KnownGateway(
    id=uuid4(),
    counts_at_authorize=True,
    require_group=False,
    address_forwarded=False,
    group_slugs=frozenset(),
    token_valid_until=None,
)


def make_version(number: int = 1, *, key_id: UUID | None = None, group: KnownGroup | None = None) -> KnownVersion:
    public_id = str(key_id or uuid4()).encode()
    key = KnownKey(public_id, group=group, networks=(), expires_at=None, disabled_at=None, revoked_at=None)
    return KnownVersion(id=number, number=number, created_at=datetime.now(UTC), valid_until=None, key=key)


def ask(digest: bytes) -> Question:
    return Question(TOKEN, digest)


@pytest.fixture
def memory() -> Memory:
    return Memory(3)


def test_other_networks_of_the_installation_are_asked_for_again_and_keys_are_kept(memory: Memory) -> None:
    learn(memory, b"1", make_version(1))
    memory.apply(Fact(Kind.POLICY, "1"))
    assert memory.recall(ask(b"1")) is None
    assert len(memory) == 1


class Counted(int):
    """An id that says whether anybody still holds it."""

    alive = 0

    def __new__(cls) -> Counted:
        cls.alive += 1
        return super().__new__(cls, 1)

    def __del__(self) -> None:
        type(self).alive -= 1


def learn(memory: Memory, digest: bytes, version: KnownVersion | None) -> None:
    memory.learn(memory.generation, ask(digest), Found(GATEWAY, version))


def test_what_was_learnt_is_recalled(memory: Memory) -> None:
    version = make_version()
    assert memory.recall(ask(b"a")) is None
    learn(memory, b"a", version)
    assert memory.recall(ask(b"a")) == (GATEWAY, version)
    assert memory.recall(Question(TOKEN, Reason.KEY_MISSING)) == (GATEWAY, None)
    assert memory.recall(Question(b"another", b"a")) is None


def test_a_key_that_changed_is_asked_for_again_in_all_its_versions(memory: Memory) -> None:
    first = make_version(1)
    second, third = (make_version(number, key_id=first.key.id) for number in (2, 3))
    for digest, version in ((b"1", first), (b"2", second), (b"3", third)):
        learn(memory, digest, version)
    memory.apply(Fact(Kind.KEY, str(first.key.id)))
    assert [memory.recall(ask(digest)) for digest in (b"1", b"2", b"3")] == [None] * 3
    assert len(memory) == 0


def test_a_group_that_changed_is_one_change_for_all_of_its_keys(memory: Memory) -> None:
    def of_group(networks: str) -> KnownVersion:
        return make_version(group=KnownGroup(7, "payments", (ip_network(networks),)))

    learn(memory, b"a", of_group("10.0.0.0/8"))
    learn(memory, b"b", of_group("10.0.0.0/8"))
    memory.apply(Fact(Kind.GROUP, "7"))
    assert memory.recall(ask(b"a")) is memory.recall(ask(b"b")) is None
    assert len(memory) == 2
    # Asked for one of them, the database tells the group's networks for both.
    learn(memory, b"a", of_group("192.0.2.0/24"))
    for digest in (b"a", b"b"):
        found = memory.recall(ask(digest))
        assert found is not None
        assert found.version is not None
        assert found.version.key.group is not None
        assert found.version.key.group.networks == (ip_network("192.0.2.0/24"),)


def test_a_gateway_that_changed_is_asked_for_again_by_every_token(memory: Memory) -> None:
    other = replace(GATEWAY, id=uuid4())
    memory.learn(0, Question(b"old token", Reason.KEY_MISSING), Found(GATEWAY, None))
    memory.learn(0, Question(b"new token", Reason.KEY_MISSING), Found(GATEWAY, None))
    memory.learn(0, Question(b"other", Reason.KEY_MISSING), Found(other, None))
    memory.apply(Fact(Kind.GATEWAY, str(GATEWAY.id)))
    assert memory.recall(Question(b"old token", b"a")) is None
    assert memory.recall(Question(b"new token", b"a")) is None
    assert memory.recall(Question(b"other", Reason.KEY_MISSING)) == (other, None)


@pytest.mark.parametrize("overtaken_by", ["a change of this key", "a change of another", "a new start"])
def test_an_answer_that_a_change_has_overtaken_is_not_kept(memory: Memory, overtaken_by: str) -> None:
    version, generation = make_version(), memory.generation
    match overtaken_by:
        case "a change of this key":
            memory.apply(Fact(Kind.KEY, str(version.key.id)))
        case "a change of another":
            memory.apply(Fact(Kind.KEY, str(uuid4())))
        case _:
            memory.clear()
    memory.learn(generation, ask(b"a"), Found(GATEWAY, version))
    assert memory.recall(ask(b"a")) is None


def test_the_oldest_go_when_there_is_no_room(memory: Memory) -> None:
    versions = {bytes([number]): make_version() for number in range(5)}
    for digest, version in versions.items():
        learn(memory, digest, version)
    assert len(memory) == 3
    assert [memory.recall(ask(digest)) is not None for digest in versions] == [False, False, True, True, True]


def test_unknown_values_take_a_little_room_until_a_key_is_made(memory: Memory) -> None:
    known = make_version()
    learn(memory, b"known", known)
    for number in range(MOST_UNKNOWN + 1):
        learn(memory, b"%d" % number, None)
    assert memory.recall(ask(b"0")) is None
    assert memory.recall(ask(b"1")) == memory.recall(ask(b"%d" % MOST_UNKNOWN)) == (GATEWAY, None)
    assert memory.recall(ask(b"known")) == (GATEWAY, known)
    memory.apply(Fact(Kind.KEY, str(uuid4())))
    assert memory.recall(ask(b"1")) is None
    assert memory.recall(ask(b"known")) == (GATEWAY, known)


def test_the_garbage_collector_does_not_walk_through_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a million keys it would take half a second, and every decision would wait."""
    monkeypatch.setattr("gateways.memory.LEFT_ALONE_EVERY", 100)
    memory, before = Memory(1_000), gc.get_freeze_count()
    try:
        for number in range(250):
            learn(memory, b"%d" % number, make_version())
        assert gc.get_freeze_count() >= before + 200
        # Nor does it have to: what is dropped goes by itself.
        dropped = Counted()
        learn(memory, b"dropped", replace(make_version(), id=dropped))
        memory.clear()
        del dropped
        assert Counted.alive == 0
    finally:
        gc.unfreeze()


def test_an_unknown_gateway_is_held_without_its_question(memory: Memory) -> None:
    memory.learn(0, Question(b"nobody's", b"a"), Found(None, None))
    assert memory.recall(Question(b"nobody's", b"a")) == (None, None)
    assert memory.recall(ask(b"a")) is None

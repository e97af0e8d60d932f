"""Members, groups, keys and gateways for tests, all made by the real verbs."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from access.access_keys import IssuedAccessKey, create_access_key
from access.actors import member_actor
from access.members import create_member
from access.models import Member
from access.rules import Role
from audit.actor import Actor
from gateways.registry import IssuedToken, create_gateway
from keys import lifecycle
from keys.groups import create_group
from keys.issuing import IssuedKey
from keys.models import ConsumerGroup

TESTS: Final = Actor.system("tests")
PASSWORD: Final = "a long password of nobody"

# With leading zeros, so that what was made later also sorts later.
_numbers = count(1)


def make_member(role: str = Role.ADMIN, *, username: str | None = None, **particulars: Any) -> Member:
    """Add a member who signs in with PASSWORD."""
    particulars = {"password": PASSWORD, **particulars}
    return create_member(actor=TESTS, username=username or f"{role}-{next(_numbers):06}", role=role, **particulars)


def actor_of(member: Member) -> Actor:
    """Return the member as the actor of a verb."""
    return member_actor(member, credential="tests")


def make_group(slug: str | None = None, **particulars: Any) -> ConsumerGroup:
    """Make a consumer group. particulars: name, managers, policy."""
    slug = slug or f"group-{next(_numbers):06}"
    return create_group(actor=TESTS, slug=slug, **{"name": slug, **particulars})


def make_key(name: str | None = None, **particulars: Any) -> IssuedKey:
    """Make a gateway key and return it with its value. particulars: as for `lifecycle.create`."""
    return lifecycle.create(**{"actor": TESTS, "name": name or f"key-{next(_numbers):06}", **particulars})


def make_gateway(name: str | None = None, **particulars: Any) -> IssuedToken:
    """Register a gateway and return it with its token's value. particulars: as for `registry.create_gateway`."""
    return create_gateway(actor=TESTS, name=name or f"gateway-{next(_numbers):06}", **particulars)


def make_access_key(owner: Member, *, name: str = "tests", **particulars: Any) -> IssuedAccessKey:
    """Make an access key of `owner` and return it with its value. particulars: as for `create_access_key`."""
    return create_access_key(actor=TESTS, owner=owner, name=name, **particulars)

"""A large installation, to measure the console with: keys in every status, what became of them, and their traffic.

Unlike the demo's, these rows are written in bulk and not by the verbs, but they are what the verbs would have left:
every constraint holds, every key has its audit entries (the sealer seals them), and every sum is that of the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import transaction

from access.models import Member
from access.rules import Role
from access.tokens import ALPHABET, DIGEST_BYTES, TokenKind
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.models import AuditEntry
from audit.recording import plain
from gateways.models import Gateway, UsageSource
from gateways.registry import create_gateway
from keeptrusts.load_tables import fill, go_on_counting, tell_the_planner
from keeptrusts.load_traffic import Traffic, User
from keys.groups import create_group
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.status import KeyStatus
from usage.partitions import make_days
from usage.rollup import roll_up

HISTORY: Final = timedelta(days=400)
DAY: Final = timedelta(days=1)
# How many keys of a hundred end up in which status.
SHARES: Final = {
    KeyStatus.ACTIVE: 60,
    KeyStatus.ROTATING: 5,
    KeyStatus.DISABLED: 5,
    KeyStatus.EXPIRED: 15,
    KeyStatus.REVOKED: 15,
}
GATEWAYS: Final = 10
MANAGERS: Final = 30
STAGES: Final = ("prod", "prod", "prod", "staging", "dev", "ci")
SYSTEMS: Final = (
    *("checkout", "refunds", "invoices", "search", "embeddings", "ranking", "chatbot", "helpdesk", "wiki", "translate"),
    *("forecast", "churn", "pricing", "orders", "shipping", "returns", "catalog", "images", "push", "mobile"),
    *("notebook", "scoring", "fraud", "ledger", "billing", "audit", "crawler", "summary", "voice", "eval"),
)
PARTS: Final = ("api", "worker", "batch", "cron", "web", "canary", "edge", "nightly", "agent", "sync")
REASONS: Final = ("Replaced by another key.", "The project has ended.", "Found in a public repository.", "Owner left.")
_KEY: Final = (
    "id", "name", "description", "consumer_group_id", "allowed_networks", "hint", "created_at", "created_by_id",
    "expires_at", "lifetime", "disabled_at", "revoked_at", "revoked_by_id", "revoke_reason", "grace_until",
    "expiry_recorded_at",
)  # fmt: skip
_VERSION: Final = ("id", "key_id", "number", "digest", "hint", "created_at", "valid_until", "closed_at")
_ENTRY: Final = (
    "at", "action", "actor_kind", "actor_id", "actor_label", "credential", "ip", "object_type", "object_id",
    "object_label", "before", "after", "detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    keys: int = 200_000
    events: int = 5_000_000
    groups: int = 200


class _Version(NamedTuple):
    id: int
    number: int
    hint: str
    created_at: datetime
    valid_until: datetime | None


@dataclass(slots=True)
class _Key:
    """A key in the making: its row's columns, and what else the traffic needs to know."""

    row: dict[str, Any]
    versions: list[_Version]
    ends_at: datetime | None
    denied_as: str


@dataclass(slots=True)
class _Installation:
    now: datetime
    size: Size
    random: Random = field(default_factory=lambda: Random(20_26))  # noqa: S311  # made-up rows, no secret
    members: list[Member] = field(default_factory=list)
    groups: list[ConsumerGroup] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    versions: list[tuple[Any, ...]] = field(default_factory=list)
    next_version: int = 1


def load(say: Callable[[str], object], size: Size, *, add_to: bool = False) -> None:
    """Fill the installation; all of it, or nothing. add_to: although there are keys already.

    Errors: ValueError where there are keys and that is not said.
    """
    if GatewayKey.objects.exists() and not add_to:
        raise ValueError("There are gateway keys already: load goes into an empty installation unless told (--add).")
    make_days(clock.now().date())
    with transaction.atomic():
        made = _Installation(clock.now(), size)
        say(f"{size.groups:,} groups, {GATEWAYS} gateways, members…")
        _found(made)
        say(f"{size.keys:,} keys with their versions and audit entries…")
        _fill_keys(made)
        say(f"{size.events:,} events of 30 days, and their sums…")
        Traffic(made.now, made.random, made.gateways, made.users).pour(size.events)
    roll_up()
    tell_the_planner()
    say("Done.")


# --- who is there -----------------------------------------------------------------------------------------------------


def _found(made: _Installation) -> None:
    """Make members, groups and gateways, or take those that an earlier load has made."""
    system = Actor.system("load")
    names = [("load-admin", Role.ADMIN, 2), ("load-manager", Role.MANAGER, MANAGERS), ("load-auditor", Role.AUDITOR, 3)]
    for stem, role, count in names:
        for number in range(1, count + 1):
            member, new = Member.objects.get_or_create(
                username=f"{stem}-{number}",
                defaults={"role": role, "name": f"{role.label} {number}", "date_joined": made.now - HISTORY},
            )
            if new:
                # Nobody signs in as them until an Admin gives them a password.
                member.set_unusable_password()
                member.save(update_fields=["password"])
            made.members.append(member)
    managers = [member for member in made.members if member.role == Role.MANAGER]
    for number in range(1, made.size.groups + 1):
        group = ConsumerGroup.objects.filter(slug=f"team-{number:03}").first()
        if group is None:
            # Every tenth group names nobody: it is every Manager's.
            named = [] if number % 10 == 0 else [managers[number % len(managers)]]
            policy: dict[str, Any] = {"max_lifetime_days": 365} if number % 3 == 0 else {}
            group = create_group(
                actor=system, slug=f"team-{number:03}", name=f"Team {number:03}", managers=named, **policy
            )
        made.groups.append(group)
    for number in range(1, GATEWAYS + 1):
        gateway = Gateway.objects.filter(name=f"edge-{number:02}").first()
        if gateway is None:
            source = UsageSource.AUTHORIZE if number % 3 == 0 else UsageSource.REPORT
            gateway = create_gateway(actor=system, name=f"edge-{number:02}", usage_source=source).gateway
        made.gateways.append(gateway)


# --- keys -------------------------------------------------------------------------------------------------------------


def _fill_keys(made: _Installation) -> None:
    newest = KeyVersion.objects.order_by("-pk").values_list("pk", flat=True).first()
    made.next_version = (newest or 0) + 1
    statuses = made.random.choices(list(SHARES), list(SHARES.values()), k=made.size.keys)
    fill(GatewayKey, _KEY, (_key(made, number, status) for number, status in enumerate(statuses)))
    fill(KeyVersion, _VERSION, made.versions)
    made.versions.clear()
    go_on_counting(KeyVersion)
    made.entries.sort(key=lambda entry: entry[0])
    fill(AuditEntry, _ENTRY, made.entries)
    made.entries.clear()


def _key(made: _Installation, number: int, status: KeyStatus) -> list[Any]:
    """Return the row of a key, and note its versions, what the log says of it, and how it is used."""
    key = _made_up(made, number, status)
    row, random = key.row, made.random
    for version in key.versions:
        digest = random.randbytes(DIGEST_BYTES)
        times = (version.created_at, version.valid_until, _closed_at(version, made.now))
        made.versions.append((version.id, row["id"], version.number, digest, version.hint, *times))
    made.entries.extend(_history(made, key))
    if random.random() < 0.8:
        newest_first = [(version.created_at, version.id) for version in reversed(key.versions)]
        made.users.append(
            User(row["id"], row["consumer_group_id"], row["created_at"], newest_first, key.ends_at, key.denied_as)
        )
    return [row[name] for name in _KEY]


def _made_up(made: _Installation, number: int, status: KeyStatus) -> _Key:
    now, random = made.now, made.random
    created = now - timedelta(seconds=random.uniform(10 * 86_400, HISTORY.total_seconds()))
    if status is KeyStatus.ACTIVE and random.random() < 0.1:
        created = now - timedelta(seconds=random.uniform(60, 10 * 86_400))
    group = random.choice(made.groups) if random.random() < 0.97 else None
    system, stage, part = random.choice(SYSTEMS), random.choice(STAGES), random.choice(PARTS)
    words = f"{part.capitalize()} of {system} in {stage}, run by {group.name if group else 'the platform team'}."
    row: dict[str, Any] = dict.fromkeys(_KEY) | {
        "id": UUID(int=random.getrandbits(128), version=4),
        "name": f"{stage}-{system}-{part}-{number:06}",
        "description": words if random.random() < 0.6 else "",
        "consumer_group_id": group.pk if group else None,
        "allowed_networks": ["10.0.0.0/8"] if random.random() < 0.1 else [],
        "created_at": created,
        "created_by_id": random.choice(made.members[: 2 + MANAGERS]).pk,
        "revoke_reason": "",
    }
    key = _Key(row, [], None, "")
    _give_versions(made, key, status)
    row["hint"] = key.versions[-1].hint
    _bring_into(made, key, status)
    if row["expires_at"] is not None:
        row["lifetime"] = row["expires_at"] - key.versions[-1].created_at
    return key


def _give_versions(made: _Installation, key: _Key, status: KeyStatus) -> None:
    now, random, created = made.now, made.random, key.row["created_at"]
    rotations = 0 if status is KeyStatus.EXPIRED else int((now - created) / timedelta(days=120))
    starts = [created + (now - created) * turn / (rotations + 1) for turn in range(rotations + 1)]
    if status is KeyStatus.ROTATING:
        starts.append(now - timedelta(seconds=random.uniform(600, 6 * 86_400)))
        key.row["grace_until"] = max(starts[-1] + 7 * DAY, now + timedelta(hours=1))
    for number, start in enumerate(starts, 1):
        last = number == len(starts)
        rotating_out = status is KeyStatus.ROTATING and number == len(starts) - 1
        until = None if last else key.row["grace_until"] if rotating_out else starts[number] + DAY
        if until is not None and until > now and not rotating_out:
            until = starts[number]  # that rotation was immediate
        hint = f"{TokenKind.GATEWAY_KEY.value}{''.join(random.choices(ALPHABET, k=4))}…"
        key.versions.append(_Version(made.next_version, number, hint, start, until))
        made.next_version += 1


def _bring_into(made: _Installation, key: _Key, status: KeyStatus) -> None:
    """Give the row the times of its status, and its expiry."""
    now, random, row = made.now, made.random, key.row
    newest = key.versions[-1].created_at
    moment = newest + (now - newest) * random.uniform(0.05, 0.98)
    if status is not KeyStatus.EXPIRED and random.random() < 0.8:
        row["expires_at"] = now + timedelta(seconds=random.uniform(86_400, 300 * 86_400))
        if row["grace_until"] is not None:
            row["expires_at"] = max(row["expires_at"], row["grace_until"] + DAY)
    match status:
        case KeyStatus.EXPIRED:
            row["expires_at"] = row["expiry_recorded_at"] = key.ends_at = moment
            key.denied_as = "key_expired"
        case KeyStatus.DISABLED:
            row["disabled_at"] = key.ends_at = moment
            key.denied_as = "key_disabled"
        case KeyStatus.REVOKED:
            row["revoked_at"] = key.ends_at = moment
            key.denied_as = "key_revoked"
            row["revoked_by_id"] = random.choice(made.members[: 2 + MANAGERS]).pk
            row["revoke_reason"] = random.choice(REASONS)


def _closed_at(version: _Version, now: datetime) -> datetime | None:
    return version.valid_until if version.valid_until is not None and version.valid_until <= now else None


def _history(made: _Installation, key: _Key) -> Iterator[tuple[Any, ...]]:
    """Yield what the audit log says of the key."""
    row = key.row
    names = {member.pk: member for member in made.members}
    creator = names[row["created_by_id"]]
    facts = {name: row[name] for name in ("name", "description", "consumer_group_id", "allowed_networks")}
    made_as = facts | {"hint": key.versions[0].hint, "expires_at": row["expires_at"], "revoked_at": None}
    yield _entry(key, row["created_at"], AuditAction.KEY_CREATED, creator, {}, made_as, {"version": 1})
    for old, new in zip(key.versions, key.versions[1:], strict=False):
        hints = {"hint": old.hint}, {"hint": new.hint}
        detail = {"version": new.number, "old_accepted_until": old.valid_until}
        yield _entry(key, new.created_at, AuditAction.KEY_ROTATED, creator, *hints, detail)
    if row["disabled_at"]:
        at = {"disabled_at": row["disabled_at"]}
        yield _entry(key, row["disabled_at"], AuditAction.KEY_DISABLED, creator, {"disabled_at": None}, at)
    if row["expiry_recorded_at"]:
        yield _entry(key, row["expiry_recorded_at"], AuditAction.KEY_EXPIRED, None)
    if row["revoked_at"]:
        by, now = names[row["revoked_by_id"]], {name: row[name] for name in ("revoked_at", "revoke_reason")}
        yield _entry(key, row["revoked_at"], AuditAction.KEY_REVOKED, by, {"revoked_at": None}, now)


def _entry(
    key: _Key,
    at: datetime,
    action: AuditAction,
    member: Member | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> tuple[Any, ...]:
    if member is None:
        who: tuple[Any, ...] = (ActorKind.SYSTEM.value, "", "sweeper", "", None)
    else:
        who = (ActorKind.MEMBER.value, str(member.pk), member.username, "session", f"10.8.0.{member.pk % 250 + 1}")
    about = ("gateway_key", str(key.row["id"]), key.row["name"])
    return (at, action.value, *who, *about, plain(before or {}), plain(after or {}), plain(detail or {}))

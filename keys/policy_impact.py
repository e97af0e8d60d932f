"""What a change of policy would mean for the keys that are there: asked before, and again under the lock.

Nothing here changes anything. keys/groups.py and keys/installation.py refuse a change that breaks keys unless it is
said what is to become of them; keys/alignment.py brings them into line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Count, Q

from access.refusals import Conflict
from keys.breaches import BreachKind, breaches, breaking, live
from keys.models import GatewayKey
from keys.networks import accepted_address, outside
from keys.policy import Policies, Rules

# So many keys are told one by one; of the others, the count.
NAMED: Final = 100
# What the first ids of a refused change are.
FIRST_IDS: Final = 20
NARROWED: Final = "networks_narrowed"


class ExistingKeys(StrEnum):
    """What is to become of the keys that a stricter policy breaks."""

    LEAVE = "leave"
    ALIGN = "align"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that the change means for one key. code: a BreachKind, or NARROWED."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Affected:
    """A key that the change breaks, and in what."""

    key: GatewayKey
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change of policy would break. kinds: how many keys in each way; a key may be broken in several.

    condition: on keys, which they are. keys: the first NAMED of them.
    """

    count: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    condition: Q = field(default_factory=lambda: Q(pk__in=[]))
    keys: Sequence[Affected] = ()

    def ids(self) -> list[UUID]:
        """Return the ids of all these keys, oldest first, while nothing else was changed."""
        found = GatewayKey.objects.filter(self.condition).order_by("created_at", "pk")
        return list(found.values_list("pk", flat=True))


def impact(before: Policies, after: Policies, of: Q, now: datetime) -> Impact:
    """Return which of the keys `of` keep to the policies `before` in something in which they do not `after`.

    A key that was left in breach is none of them: this change does not break it. What loses networks from which it is
    accepted now, is: gateways refuse it there when the change is in force.
    """
    old, new = breaking(before, now), breaking(after, now)
    conditions = {kind.value: new[kind] & ~old[kind] for kind in BreachKind}
    conditions[NARROWED] = live(now) & Q(allowed_networks=[]) & _fenced_in(before, after)
    condition = Q(pk__in=[])
    for one in conditions.values():
        condition |= one
    keys = GatewayKey.objects.filter(of)
    counts = keys.aggregate(
        **{code: Count("pk", filter=one) for code, one in conditions.items()}, every=Count("pk", filter=condition)
    )
    count = counts.pop("every")
    if not count:
        return Impact()
    first = keys.filter(condition).with_metrics().select_related("consumer_group").order_by("created_at", "pk")[:NAMED]
    told = [Affected(key, _effects(key, before.of(key), after.of(key), now)) for key in first]
    return Impact(count, {code: number for code, number in counts.items() if number}, of & condition, told)


def decided(impact: Impact, choice: str | None, permission: str, obj: object) -> ExistingKeys | None:
    """Return what is to become of the keys that the change breaks; None where it breaks none.

    Errors: Conflict `policy_breaks_keys`, with their count and the first ids, where that was not said;
    ValidationError at `existing_keys` for what is no choice.
    """
    if choice is not None and choice not in set(ExistingKeys):
        message = f"Say {' or '.join(f'“{one}”' for one in ExistingKeys)}."
        raise ValidationError({"existing_keys": ValidationError(message, code="invalid_choice")})
    if not impact.count:
        return None
    if choice is None:
        keys = "1 key" if impact.count == 1 else f"{impact.count:,} keys"
        detail = f"This would break {keys}. Say what is to become of them: existing_keys “leave” or “align”."
        more = {"count": impact.count, "ids": [str(one.key.pk) for one in impact.keys[:FIRST_IDS]]}
        raise Conflict("policy_breaks_keys", detail, permission=permission, obj=obj, more=more)
    return ExistingKeys(choice)


def as_json(impact: Impact) -> dict[str, Any]:
    """Return what the API says of it."""
    return {
        "count": impact.count,
        "kinds": dict(impact.kinds),
        "keys": [
            {
                "id": str(one.key.pk),
                "name": one.key.name,
                "consumer_group": one.key.consumer_group.slug if one.key.consumer_group else None,
                "breaks": [{"code": effect.code, "detail": effect.words} for effect in one.effects],
            }
            for one in impact.keys
        ],
    }


def _effects(key: GatewayKey, before: Rules, after: Rules, now: datetime) -> tuple[Effect, ...]:
    had = {breach.kind for breach in breaches(key, before, now)}
    effects = [Effect(one.kind.value, one.words) for one in breaches(key, after, now) if one.kind not in had]
    if not key.allowed_networks and _narrower(before, after):
        effects.append(Effect(NARROWED, _narrowed(after)))
    return tuple(effects)


def _narrowed(rules: Rules) -> str:
    """Say from where gateways accept a key that has no networks of its own."""
    within = " and in ".join(", ".join(fence.networks[:5]) for fence in rules.fences)
    if not accepted_address(*(fence.networks for fence in rules.fences)):
        return f"Gateways accept it from nowhere any more: no address lies both in {within}."
    both = "both in" if len(rules.fences) > 1 else "in"
    return f"Gateways accept it only from addresses {both} {within} from then on."


def _fenced_in(before: Policies, after: Policies) -> Q:
    """Return the condition on keys of the groups, or of none, whose policies leave them fewer networks than before."""
    if list(before.installation.allowed_networks) == list(after.installation.allowed_networks):
        changed = [pk for pk in after.groups if _narrower(*_rules(before, after, pk))]
        return Q(consumer_group__in=changed)
    spared = [pk for pk in after.groups if not _narrower(*_rules(before, after, pk))]
    condition = ~Q(consumer_group__in=spared)
    if not _narrower(*_rules(before, after, None)):
        condition &= Q(consumer_group__isnull=False)
    return condition


def _rules(before: Policies, after: Policies, group_id: int | None) -> tuple[Rules, Rules]:
    key = GatewayKey(consumer_group_id=group_id)
    return before.of(key), after.of(key)


def _narrower(before: Rules, after: Rules) -> bool:
    """Say whether some address that all fences let in before is kept out after; in doubt, yes."""
    # A fence keeps nobody out that one of before kept out already.
    spared = (any(not outside(old.networks, fence.networks) for old in before.fences) for fence in after.fences)
    return not all(spared)

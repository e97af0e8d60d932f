"""The same done to many gateway keys at once: seen before, then carried out key by key, with a result for each.

A step is a verb with its particulars, done to each key through the verb that does it to one (keys/lifecycle.py):
rights, policy and state are checked there. A fix is a step that says beforehand what would become of each key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet, prefetch_related_objects

from access.models import Member
from access.refusals import Conflict, Forbidden, record_refusal
from access.text import clean_text
from audit import clock
from audit.actor import Actor
from audit.moments import stamp
from keys import lifecycle, policy
from keys.issuing import IssuedKey
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from keys.narrowing import Narrowing, narrowing
from keys.offers import PERMISSIONS, why_not
from keys.visibility import manages_all

MOST_AT_ONCE: Final = 1_000

type Refusal = GatewayKey.DoesNotExist | Forbidden | Conflict | ValidationError


class Step(ABC):
    """What is done to each of many keys."""

    @abstractmethod
    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        """Do it to one key through its verb, whose errors these are."""


class Fix(Step):
    """A step that is seen before it is done. verb: whose right and state count (keys/offers.py)."""

    verb: ClassVar[str]
    # What it looks at of each key beside its group and owner: fetched for all keys of a preview at once.
    looks_at: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def before(self, key: GatewayKey, now: datetime) -> str:
        """Return, in words, what would be changed of the key, as it is."""

    @abstractmethod
    def after(self, key: GatewayKey, now: datetime) -> str:
        """Return, in words, what it would become."""

    def why_not(self, key: GatewayKey, now: datetime) -> str:
        """Say why the key's state or its group's policy does not allow it; "" where they do."""
        return why_not(self.verb, key, now)


@dataclass(frozen=True, slots=True)
class Revoke(Fix):
    reason: str = ""
    verb: ClassVar[str] = "revoke"

    def __post_init__(self) -> None:
        # Before anything is done; ValidationError at the field.
        clean_text(self.reason, field="reason", limit=500)

    def before(self, key: GatewayKey, now: datetime) -> str:
        return key.status_at(now).label

    def after(self, key: GatewayKey, now: datetime) -> str:
        return "Revoked, for good"

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return lifecycle.revoke(actor=actor, key_id=key.pk, reason=self.reason, within=within)


@dataclass(frozen=True, slots=True)
class Disable(Fix):
    verb: ClassVar[str] = "disable"

    def before(self, key: GatewayKey, now: datetime) -> str:
        return key.status_at(now).label

    def after(self, key: GatewayKey, now: datetime) -> str:
        return "Disabled, until it is enabled"

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return lifecycle.disable(actor=actor, key_id=key.pk, within=within)


@dataclass(frozen=True, slots=True)
class EndGrace(Fix):
    verb: ClassVar[str] = "end_grace"

    def before(self, key: GatewayKey, now: datetime) -> str:
        accepted = key.grace_until is not None and key.grace_until > now
        return f"Old value accepted until {stamp(key.grace_until)}" if key.grace_until and accepted else "No grace"

    def after(self, key: GatewayKey, now: datetime) -> str:
        return "Old value refused from now on"

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return lifecycle.end_grace(actor=actor, key_id=key.pk, within=within)


class Edit(Fix):
    """A fix that gives keys other particulars."""

    verb: ClassVar[str] = "edit"

    @abstractmethod
    def changed(self, key: GatewayKey, now: datetime) -> dict[str, Any]:
        """Return what the verb is to change of the key."""

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return lifecycle.edit(actor=actor, key_id=key.pk, changed=self.changed(key, clock.now()), within=within)


@dataclass(frozen=True, slots=True)
class SetExpiry(Edit):
    """Let keys expire in so many days, or, where that is less, in as many as their policy allows."""

    days: int
    installation: InstallationPolicy = field(default_factory=policy.installation_policy)

    def before(self, key: GatewayKey, now: datetime) -> str:
        return stamp(key.expires_at) if key.expires_at else "Never"

    def after(self, key: GatewayKey, now: datetime) -> str:
        most = policy.rules_of(key.consumer_group, self.installation).max_lifetime
        cut = f", the most that {policy.lower(most.of)} allows" if most is not None and most.value < self.days else ""
        return f"{stamp(self._expires_at(key, now))}{cut}"

    def changed(self, key: GatewayKey, now: datetime) -> dict[str, Any]:
        return {"expires_at": self._expires_at(key, now)}

    def _expires_at(self, key: GatewayKey, now: datetime) -> datetime:
        return now + timedelta(days=self._allowed(key))

    def _allowed(self, key: GatewayKey) -> int:
        return min(self.days, policy.rules_of(key.consumer_group, self.installation).most_days)


@dataclass(frozen=True, slots=True)
class ChangeOwner(Edit):
    owner: Member

    def before(self, key: GatewayKey, now: datetime) -> str:
        if key.owner is None:
            return "Nobody"
        return str(key.owner) if key.owner.is_active else f"{key.owner}, who has left"

    def after(self, key: GatewayKey, now: datetime) -> str:
        return str(self.owner)

    def why_not(self, key: GatewayKey, now: datetime) -> str:
        return why_not(self.verb, key, now) or ("Its owner already." if key.owner == self.owner else "")

    def changed(self, key: GatewayKey, now: datetime) -> dict[str, Any]:
        return {"owner": self.owner}


@dataclass(frozen=True, slots=True)
class Scope(Edit):
    """Let keys be accepted for the traffic of one group alone. Its policy holds for what they keep."""

    group: ConsumerGroup
    installation: InstallationPolicy = field(default_factory=policy.installation_policy)

    def before(self, key: GatewayKey, now: datetime) -> str:
        return str(key.consumer_group or "All groups")

    def after(self, key: GatewayKey, now: datetime) -> str:
        return str(self.group)

    def why_not(self, key: GatewayKey, now: datetime) -> str:
        if reason := why_not(self.verb, key, now):
            return reason
        if key.consumer_group == self.group:
            return "In this group already."
        rules = policy.rules_of(self.group, self.installation)
        try:
            policy.check_expiry(key.expires_at, rules, now)
        except ValidationError as error:
            return f"{' '.join(error.messages)} Set its expiry first."
        try:
            policy.check_networks(key.allowed_networks, rules)
            policy.check_running_grace(key.grace_until, rules, now)
        except ValidationError as error:
            return " ".join(error.messages)
        return ""

    def changed(self, key: GatewayKey, now: datetime) -> dict[str, Any]:
        return {"consumer_group": self.group}


@dataclass(frozen=True, slots=True)
class Change(Step):
    """Give keys the same other particulars (lifecycle.EDITABLE)."""

    changed: Mapping[str, Any]

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return lifecycle.edit(actor=actor, key_id=key.pk, changed=self.changed, within=within)


@dataclass(frozen=True, slots=True)
class Rotate(Step):
    """Rotate keys. issued: the new values, by the key's id, in memory for the one answer that shows them."""

    grace: timedelta | None = None
    renew_expiry: bool = True
    issued: dict[UUID, IssuedKey] = field(default_factory=dict, init=False, repr=False)

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        issued = lifecycle.rotate(
            actor=actor, key_id=key.pk, grace=self.grace, renew_expiry=self.renew_expiry, within=within
        )
        self.issued[key.pk] = issued
        return issued.key


# --- before -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What would become of one key. why_not: why nothing would; "" where it would."""

    key: GatewayKey
    before: str
    after: str
    why_not: str


def preview(member: Member, fix: Fix, keys: Sequence[GatewayKey]) -> list[Plan]:
    """Return what `fix` would do to each of `keys`, which come with their group and owner, and change nothing."""
    now = clock.now()
    allowed = member.may(PERMISSIONS[fix.verb])
    managed = manages_all(member, {key.consumer_group_id for key in keys})
    prefetch_related_objects(keys, *fix.looks_at)
    plans = []
    for key in keys:
        reason = fix.why_not(key, now)
        if not allowed:
            reason = "Your role does not allow this."
        elif not managed[key.consumer_group_id]:
            reason = "You do not manage its group." if key.consumer_group else "You do not manage every group."
        plans.append(Plan(key, fix.before(key, now), fix.after(key, now), reason))
    return plans


# --- carried out ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of one key of many. error: None where it was done; else why not, and then nothing was."""

    key_id: UUID
    key: GatewayKey | None
    error: Refusal | None = None

    @property
    def why_not(self) -> str:
        """The reason in words; "" where it was done."""
        match self.error:
            case None:
                return ""
            case Conflict():
                return self.error.detail
            case ValidationError():
                return " ".join(self.error.messages)
            case Forbidden():
                return str(self.error)
            case _:
                return "There is no such key."


class NothingDone(Exception):
    """One at least of several keys that were to be changed together could not be: none was."""

    def __init__(self, results: list[BulkResult]) -> None:
        super().__init__("Nothing was done.")
        self.results = results


def apply_many(
    *,
    actor: Actor,
    fix: Step,
    key_ids: Iterable[UUID],
    among: QuerySet[GatewayKey] | None = None,
    together: bool = False,
) -> list[BulkResult]:
    """Do `fix` to each key on its own, once, with results in the order given; one that fails never costs the others.

    All together are made known to gateways once. among: the keys that there are, for this actor; None: all.
    together: do it to all of them or, where one fails, to none. Errors: ValidationError for more than MOST_AT_ONCE
    keys, before anything is done; NothingDone, when `together`, with what each was refused for.
    """
    unique = list(dict.fromkeys(key_ids))
    if len(unique) > MOST_AT_ONCE:
        message = f"At most {MOST_AT_ONCE:,} keys at once."
        raise ValidationError({"ids": ValidationError(message, code="too_many")})
    there = GatewayKey.objects.all() if among is None else among
    keys = {key.pk: key for key in there.filter(pk__in=unique).select_related("consumer_group")}
    with transaction.atomic() if together else nullcontext():
        done = _apply_each(actor, fix, unique, keys)
        results = [done[key_id] for key_id in unique]
        if together and any(result.error is not None for result in results):
            raise NothingDone(results)
    return results


def try_many(
    *, actor: Actor, fix: Step, key_ids: Iterable[UUID], among: QuerySet[GatewayKey] | None = None
) -> list[BulkResult]:
    """Return what `apply_many` would make of each key, found out by doing it, and change nothing.

    The keys in the results are as they would be. Errors: ValidationError for more than MOST_AT_ONCE keys.
    """
    with transaction.atomic():
        results = apply_many(actor=actor, fix=fix, key_ids=key_ids, among=among)
        transaction.set_rollback(True)
    return results


def _apply_each(
    actor: Actor, fix: Step, key_ids: Sequence[UUID], keys: Mapping[UUID, GatewayKey]
) -> dict[UUID, BulkResult]:
    results = {}
    with narrowing() as change:
        # Every caller locks in one order: where a transaction holds all of these locks (`Idempotency-Key`), two that
        # were given the same keys in another order would wait for each other.
        for key_id in sorted(key_ids):
            try:
                if key_id not in keys:
                    raise GatewayKey.DoesNotExist
                results[key_id] = BulkResult(key_id, fix.apply(actor, keys[key_id], change))
            except (GatewayKey.DoesNotExist, Forbidden, Conflict, ValidationError) as error:
                results[key_id] = BulkResult(key_id, None, error)
    return results


def record_refusals(actor: Actor, results: Iterable[BulkResult]) -> None:
    """Write into the audit log which keys `actor` was refused, and with what."""
    for result in results:
        if isinstance(result.error, Forbidden | Conflict):
            record_refusal(actor, result.error)

"""How a key that breaks its policy is brought into line with it, through the verbs that anybody would use for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from audit import clock
from audit.actor import Actor
from audit.moments import stamp
from keys import lifecycle
from keys.breaches import BreachKind, breaches
from keys.bulk import MOST_AT_ONCE, BulkResult, Fix, apply_many, record_refusals
from keys.models import GatewayKey, InstallationPolicy
from keys.narrowing import Narrowing
from keys.networks import narrowed_to, outside
from keys.offers import why_not
from keys.policy import Rules, default_expiry, installation_policy, longest_grace, rules_of, standing

# What the verbs can mend. Who has not used a key for long will use it, or not.
MENDED = frozenset(BreachKind) - {BreachKind.IDLE}


@dataclass(frozen=True, slots=True)
class Align(Fix):
    """Bring each key into line with the policy that holds for it: its expiry, its networks, the grace that runs."""

    installation: InstallationPolicy = field(default_factory=installation_policy)
    verb: ClassVar[str] = "edit"
    looks_at: ClassVar[tuple[str, ...]] = ("metrics",)

    def before(self, key: GatewayKey, now: datetime) -> str:
        return " ".join(breach.words for breach in breaches(key, self._rules(key), now)) or "In line"

    def after(self, key: GatewayKey, now: datetime) -> str:
        try:
            changed = mended(key, self._rules(key), now)
        except ValidationError:
            return "As it is"
        words = []
        if "expires_at" in changed:
            words.append(f"Expires {stamp(changed['expires_at'])}")
        if "allowed_networks" in changed:
            words.append(f"Accepted from {', '.join(changed['allowed_networks'])}")
        if _has(BreachKind.GRACE_TOO_LONG, key, self._rules(key), now):
            end = now + longest_grace(self._rules(key))
            words.append(f"Old value accepted until {stamp(end)}" if end > now else "Old value refused from now on")
        return "; ".join(words) or "As it is"

    def why_not(self, key: GatewayKey, now: datetime) -> str:
        if reason := why_not(self.verb, key, now):
            return reason
        rules = self._rules(key)
        if not any(breach.kind in MENDED for breach in breaches(key, rules, now)):
            idle = _has(BreachKind.IDLE, key, rules, now)
            return "Only somebody's use of it can mend this." if idle else "In line with its policy already."
        try:
            mended(key, rules, now)
        except ValidationError as error:
            return " ".join(error.messages)
        return ""

    def apply(self, actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
        return align(actor, key, within)

    def _rules(self, key: GatewayKey) -> Rules:
        return rules_of(key.consumer_group, self.installation)


def align_all(actor: Actor, key_ids: Sequence[UUID]) -> list[BulkResult] | None:
    """Bring each key into line on its own, with a result for each; None where there are none.

    Of more than MOST_AT_ONCE, the first so many: the others stay listed as breaking their policy, to be mended there.
    """
    if not key_ids:
        return None
    results = apply_many(actor=actor, fix=Align(), key_ids=key_ids[:MOST_AT_ONCE])
    record_refusals(actor, results)
    return results


def align(actor: Actor, key: GatewayKey, within: Narrowing) -> GatewayKey:
    """Bring one key into line, in one transaction: an edit, and a shorter grace, each with its audit entry.

    Errors: as the verbs'; ValidationError where the policy does not say what the key should become.
    """
    with transaction.atomic():
        found = GatewayKey.objects.select_related("consumer_group").get(pk=key.pk)
        now, rules = clock.now(), rules_of(found.consumer_group, standing())
        if changed := mended(found, rules, now):
            found = lifecycle.edit(actor=actor, key_id=key.pk, changed=changed, within=within)
        # After the edit: what it has cut short needs no more.
        if _has(BreachKind.GRACE_TOO_LONG, found, rules, now):
            found = lifecycle.shorten_grace(actor=actor, key_id=key.pk, within=within)
    return found


def mended(key: GatewayKey, rules: Rules, now: datetime) -> dict[str, Any]:
    """Return what an edit is to give the key; nothing where its expiry and networks are in line.

    Errors: ValidationError where policy demands an expiry and proposes none, and where it leaves no network.
    """
    kinds = {breach.kind for breach in breaches(key, rules, now)}
    changed: dict[str, Any] = {}
    if BreachKind.EXPIRY_MISSING in kinds:
        changed["expires_at"] = default_expiry(rules, now)
    elif BreachKind.EXPIRY_TOO_LATE in kinds:
        changed["expires_at"] = now + timedelta(days=rules.most_days)
    if BreachKind.NETWORK_OUTSIDE in kinds:
        networks = list(key.allowed_networks)
        for fence in rules.fences:
            if outside(networks, fence.networks):
                networks = narrowed_to(networks, fence.networks)
        if not networks:
            message = "None of its networks lies in those of its policy: choose others, or revoke it."
            raise ValidationError({"allowed_networks": ValidationError(message, code="network_outside")})
        changed["allowed_networks"] = networks
    return changed


def _has(kind: BreachKind, key: GatewayKey, rules: Rules, now: datetime) -> bool:
    return any(breach.kind is kind for breach in breaches(key, rules, now))

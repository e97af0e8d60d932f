"""Any order of verbs, through form, API and bulk, and of changes of policy: no key breaks its policy but one that was
left. What a breach is, is said here once more, by a few lines that share nothing with what they judge.
"""

from __future__ import annotations

import ipaddress
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rest_framework.test import APIClient

from access.refusals import Conflict
from keys import bulk, lifecycle
from keys.alignment import Align
from keys.groups import edit_group
from keys.installation import edit_policy
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy, PolicyFields
from tests.factories import TESTS, make_access_key, make_group, make_member
from tests.keys.conftest import ADD, KEYS, form

API = "/api/v1/gateway-keys/"
DAY = timedelta(days=1)
DAYS = st.sampled_from([5, 20, 30, 60, 90, 400])
NETWORKS = st.lists(
    st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]), max_size=2, unique=True
)
GRACES = st.sampled_from([0, 3_600, 86_400, 5 * 86_400])
RULES = st.fixed_dictionaries(
    {},
    optional={
        "max_lifetime_days": st.none() | st.sampled_from([10, 30, 60]),
        "default_lifetime_days": st.none() | st.just(10),
        "expiry_required": st.booleans(),
        "max_grace_seconds": st.none() | GRACES,
        "allowed_networks": NETWORKS,
    },
)
GROUPS = ("payments", "search", None)


def broken(key: GatewayKey, now: datetime) -> set[str]:
    """Return what the key breaks of its group's policy and the installation's."""
    policies: list[PolicyFields] = list(InstallationPolicy.objects.all())
    if key.consumer_group is not None:
        policies.append(key.consumer_group)
    found = set()
    for one in policies:
        most, grace = one.max_lifetime_days, one.max_grace_seconds
        if key.expires_at is None and (one.expiry_required or most):
            found.add("missing")
        if key.expires_at is not None and most is not None and key.expires_at > now + most * DAY:
            found.add("late")
        if grace is not None and key.versions.filter(valid_until__gt=now + timedelta(seconds=grace)).exists():
            found.add("grace")
        around: list[Any] = [ipaddress.ip_network(network) for network in one.allowed_networks]
        own: list[Any] = [ipaddress.ip_network(network) for network in key.allowed_networks]
        if around and not all(any(network.subnet_of(other) for other in around) for network in own):
            found.add("network")
    return found


class Policy(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.time = self.stack.enter_context(time_machine.travel(self.now, tick=False))
        self.left: set[tuple[uuid.UUID, str]] = set()

    @initialize()
    def start(self) -> None:
        cache.clear()
        GatewayKey.objects.all().update(revoked_at=self.now)  # those of the example before
        edit_policy(
            actor=TESTS,
            changed={
                **dict.fromkeys(("max_lifetime_days", "default_lifetime_days", "max_grace_seconds")),
                "expiry_required": False,
                "allowed_networks": [],
            },
            existing_keys="leave",
        )
        admin = make_member()
        self.groups = {name: make_group() if name else None for name in GROUPS}
        self.admin = admin
        self.api = APIClient()
        self.api.credentials(HTTP_AUTHORIZATION=f"Bearer {make_access_key(admin).value}")

    def teardown(self) -> None:
        self.stack.close()

    def browser(self) -> Client:
        """A browser that has just signed in: a session does not outlast the days that pass here."""
        client = Client()
        client.force_login(self.admin, backend="django.contrib.auth.backends.ModelBackend")
        return client

    def keys(self) -> list[GatewayKey]:
        keys = GatewayKey.objects.filter(revoked_at__isnull=True).exclude(expires_at__lte=self.now)
        return list(keys.select_related("consumer_group").order_by("created_at", "pk"))

    def one(self, number: int) -> GatewayKey:
        keys = self.keys()
        return keys[number % len(keys)]

    def slug(self, name: str | None) -> str | None:
        group = self.groups[name]
        return group.slug if group is not None else None

    # --- making and changing keys -------------------------------------------------------------------------------------

    @rule(group=st.sampled_from(GROUPS), days=st.none() | DAYS, networks=NETWORKS)
    def create_by_api(self, group: str | None, days: int | None, networks: list[str]) -> None:
        expires_at = (self.now + days * DAY).isoformat() if days else None
        body = {"name": "x", "consumer_group": self.slug(group), "allowed_networks": networks, "expires_at": expires_at}
        assert self.api.post(API, body).status_code in {201, 400}

    @rule(group=st.sampled_from(GROUPS), expiry=st.sampled_from(["30", "90", "never"]), networks=NETWORKS)
    def create_by_form(self, group: str | None, expiry: str, networks: list[str]) -> None:
        chosen = self.groups[group].pk if self.groups[group] else ""  # type: ignore[union-attr]  # just asked
        sent = form(form_token=uuid.uuid4(), consumer_group=chosen, expiry=expiry, allowed_networks="\n".join(networks))
        assert self.browser().post(ADD, sent).status_code == 200

    @precondition(lambda self: self.keys())
    @rule(
        number=st.integers(0, 20),
        changed=st.fixed_dictionaries(
            {}, optional={"group": st.sampled_from(GROUPS), "days": st.none() | DAYS, "networks": NETWORKS}
        ),
    )
    def edit_by_api(self, number: int, changed: dict[str, Any]) -> None:
        body: dict[str, Any] = {}
        if "group" in changed:
            body["consumer_group"] = self.slug(changed["group"])
        if "days" in changed:
            body["expires_at"] = (self.now + changed["days"] * DAY).isoformat() if changed["days"] else None
        if "networks" in changed:
            body["allowed_networks"] = changed["networks"]
        key = self.one(number)
        if self.api.patch(f"{API}{key.pk}/", body).status_code == 200:
            self.mended(key)

    @precondition(lambda self: self.keys())
    @rule(
        number=st.integers(0, 20), group=st.sampled_from(GROUPS), expiry=st.sampled_from(["keep", "30", "90", "never"])
    )
    def edit_by_form(self, number: int, group: str | None, expiry: str) -> None:
        key, chosen = self.one(number), self.groups[group]
        networks = "\n".join(key.allowed_networks)
        sent = form(name="y", consumer_group=chosen.pk if chosen else "", expiry=expiry, allowed_networks=networks)
        if self.browser().post(f"{KEYS}{key.pk}/change/", sent).status_code == 302:
            self.mended(key)

    @precondition(lambda self: self.keys())
    @rule(number=st.integers(0, 20), grace=st.none() | GRACES, renew=st.booleans())
    def rotate(self, number: int, grace: int | None, renew: bool) -> None:
        body = {"grace_seconds": grace, "renew_expiry": renew}
        assert self.api.post(f"{API}{self.one(number).pk}/rotate/", body).status_code in {200, 400, 409}

    @precondition(lambda self: self.keys())
    @rule(number=st.integers(0, 20), grace=GRACES)
    def extend_grace(self, number: int, grace: int) -> None:
        answer = self.api.post(f"{API}{self.one(number).pk}/extend-grace/", {"grace_seconds": grace})
        assert answer.status_code in {200, 400, 409}

    @precondition(lambda self: self.keys())
    @rule(number=st.integers(0, 20), disabled=st.booleans())
    def switch(self, number: int, disabled: bool) -> None:
        key = self.one(number)
        try:
            (lifecycle.disable if disabled else lifecycle.enable)(actor=TESTS, key_id=key.pk)
        except Conflict:
            return
        # Nobody brings a key back that breaks its policy, though it was left so.
        assert disabled or not broken(self.fresh(key), self.now)

    @precondition(lambda self: self.keys())
    @rule(fix=st.sampled_from(["expiry", "payments", "search", "align"]), days=DAYS)
    def bulk(self, fix: str, days: int) -> None:
        keys = self.keys()
        made: bulk.Fix = Align()
        if fix == "expiry":
            made = bulk.SetExpiry(days)
        elif (group := self.groups.get(fix)) is not None:
            made = bulk.Scope(ConsumerGroup.objects.get(pk=group.pk))
        for result in bulk.apply_many(actor=TESTS, fix=made, key_ids=[key.pk for key in keys]):
            if result.error is None:
                self.mended(GatewayKey.objects.get(pk=result.key_id))

    # --- policies and time --------------------------------------------------------------------------------------------

    @rule(group=st.sampled_from(GROUPS), rules=RULES, choice=st.sampled_from([None, "leave", "align"]))
    def edit_policy(self, group: str | None, rules: dict[str, Any], choice: str | None) -> None:
        of = self.groups[group]
        policy: PolicyFields
        try:
            if of is None:
                policy = edit_policy(actor=TESTS, changed=rules, existing_keys=choice)
            else:
                policy = edit_group(actor=TESTS, group_id=of.pk, changed=rules, existing_keys=choice)
        except (ValidationError, Conflict):
            return
        results = policy.alignment or []
        left = [key.pk for key in self.keys()] if choice == "leave" else [one.key_id for one in results if one.error]
        for key in GatewayKey.objects.filter(pk__in=left).select_related("consumer_group"):
            self.left |= {(key.pk, what) for what in broken(key, self.now)}
        for result in results:
            if result.error is None:
                assert not broken(self.fresh(GatewayKey(pk=result.key_id)), self.now)

    @rule(days=st.sampled_from([1, 7, 40]))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY
        self.time.move_to(self.now, tick=False)

    @invariant()
    def no_key_breaks_its_policy_but_one_that_was_left(self) -> None:
        found = {(key.pk, what) for key in self.keys() for what in broken(key, self.now)}
        assert found <= self.left

    def fresh(self, key: GatewayKey) -> GatewayKey:
        return GatewayKey.objects.select_related("consumer_group").get(pk=key.pk)

    def mended(self, key: GatewayKey) -> None:
        """What a key breaks no longer after a change may not come back by another one."""
        still = broken(self.fresh(key), self.now)
        self.left -= {(pk, what) for pk, what in self.left if pk == key.pk and what not in still}


def run(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Policy,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.timeout(300)
def test_no_order_of_verbs_ends_with_a_key_in_breach_that_nobody_left(transactional_db: None) -> None:
    run(examples=3, steps=15)

"""Any order of verbs, time, restarts and questions: a model of its own says what must be accepted.

The model is written from design §5, §6 and §8, and shares no code with what it judges.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from access.refusals import Conflict
from gateways.registry import edit_gateway
from keys import installation, lifecycle
from keys.groups import edit_group
from keys.models import ConsumerGroup, GatewayKey
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import Plane, running_plane
from usage.models import KeyMetrics

NODES = 2
INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"
GROUPS = ("payments", "search")
HOURS = st.integers(1, 5).map(lambda hours: timedelta(hours=hours))


@dataclass
class ModelKey:
    """What must be true of a key. values: each with when its grace ends, None for the current one."""

    id: Any
    group: str | None
    expires_at: datetime | None
    lifetime: timedelta | None
    networks: bool = False
    disabled: bool = False
    revoked: bool = False
    values: dict[str, datetime | None] = field(default_factory=dict)
    served: int = 0


class Lifecycle(RuleBasedStateMachine):
    values: Bundle[str] = Bundle("values")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.time = self.stack.enter_context(time_machine.travel(self.now, tick=False))
        self.keys: list[ModelKey] = []
        self.nodes: list[tuple[Plane, ExitStack]] = []

    @initialize()
    def start(self) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        for name in GROUPS:
            self.groups[name] = make_group()
        self.group_networks = dict.fromkeys(GROUPS, False)
        self.networks_everywhere = False
        # The examples of one test share a database.
        installation.edit_policy(actor=TESTS, changed={"allowed_networks": []})
        self.gateway = make_gateway()
        self.limited_to: str | None = None
        for _ in range(NODES):
            self.start_node()

    def start_node(self) -> None:
        stack = ExitStack()
        self.nodes.append((stack.enter_context(running_plane()), stack))

    def teardown(self) -> None:
        for _, stack in self.nodes:
            stack.close()
        self.stack.close()

    # --- verbs --------------------------------------------------------------------------------------------------------

    @rule(target=values, group=st.sampled_from([None, *GROUPS]), lifetime=st.none() | HOURS)
    def create(self, group: str | None, lifetime: timedelta | None) -> str:
        expires_at = self.now + lifetime if lifetime else None
        issued = make_key(consumer_group=self.groups[group] if group else None, expires_at=expires_at)
        self.keys.append(ModelKey(issued.key.pk, group, expires_at, lifetime, values={issued.value: None}))
        return issued.value

    @rule(target=values, value=values, grace=st.just(timedelta(0)) | HOURS, renew=st.booleans())
    def rotate(self, value: str, grace: timedelta, renew: bool) -> Any:
        key = self.key_of(value)
        if key.revoked or self.expired(key) or key.disabled:
            with pytest.raises(Conflict):
                lifecycle.rotate(actor=TESTS, key_id=key.id, grace=grace, renew_expiry=renew)
            return multiple()
        issued = lifecycle.rotate(actor=TESTS, key_id=key.id, grace=grace, renew_expiry=renew)
        if renew and key.lifetime is not None:
            key.expires_at = self.now + key.lifetime
            self.cut_grace(key)
        end = self.now + grace
        if key.expires_at is not None:
            end = min(end, key.expires_at)
        key.values = {known: until if until is not None else end for known, until in key.values.items()}
        key.values[issued.value] = None
        return issued.value

    @rule(value=values)
    def end_grace(self, value: str) -> None:
        key = self.key_of(value)
        in_grace = [known for known, until in key.values.items() if until is not None and until > self.now]
        if key.revoked or self.expired(key) or not in_grace:
            with pytest.raises(Conflict):
                lifecycle.end_grace(actor=TESTS, key_id=key.id)
            return
        lifecycle.end_grace(actor=TESTS, key_id=key.id)
        for known in in_grace:
            key.values[known] = self.now

    @rule(value=values, grace=HOURS)
    def extend_grace(self, value: str, grace: timedelta) -> None:
        key, end = self.key_of(value), self.now + grace
        in_grace = {known: until for known, until in key.values.items() if until is not None and until > self.now}
        if key.expires_at is not None:
            end = min(end, key.expires_at)
        if key.revoked or self.expired(key) or not in_grace:
            with pytest.raises(Conflict):
                lifecycle.extend_grace(actor=TESTS, key_id=key.id, grace=grace)
        elif end <= max(in_grace.values()):
            with pytest.raises(ValidationError):
                lifecycle.extend_grace(actor=TESTS, key_id=key.id, grace=grace)
        else:
            lifecycle.extend_grace(actor=TESTS, key_id=key.id, grace=grace)
            key.values.update(dict.fromkeys(in_grace, end))

    @rule(value=values)
    def disable(self, value: str) -> None:
        self.switch(self.key_of(value), lifecycle.disable, disabled=True)

    @rule(value=values)
    def enable(self, value: str) -> None:
        self.switch(self.key_of(value), lifecycle.enable, disabled=False)

    def switch(self, key: ModelKey, verb: Any, *, disabled: bool) -> None:
        if key.revoked or self.expired(key) or key.disabled is disabled:
            with pytest.raises(Conflict):
                verb(actor=TESTS, key_id=key.id)
            return
        verb(actor=TESTS, key_id=key.id)
        key.disabled = disabled

    @rule(value=values)
    def revoke(self, value: str) -> None:
        key = self.key_of(value)
        lifecycle.revoke(actor=TESTS, key_id=key.id)
        key.revoked = True

    @rule(value=values, group=st.sampled_from([None, *GROUPS]))
    def move(self, value: str, group: str | None) -> None:
        if self.edits(value, consumer_group=self.groups[group] if group else None):
            self.key_of(value).group = group

    @rule(value=values, networks=st.booleans())
    def edit_networks(self, value: str, networks: bool) -> None:
        if self.edits(value, allowed_networks=["10.0.0.0/8"] if networks else []):
            self.key_of(value).networks = networks

    @rule(value=values, lifetime=st.none() | HOURS)
    def edit_expiry(self, value: str, lifetime: timedelta | None) -> None:
        expires_at = self.now + lifetime if lifetime else None
        key = self.key_of(value)
        if self.edits(value, expires_at=expires_at):
            if key.expires_at != expires_at:
                key.expires_at, key.lifetime = expires_at, lifetime
            self.cut_grace(key)

    def edits(self, value: str, **changed: Any) -> bool:
        key = self.key_of(value)
        if key.revoked or self.expired(key):
            with pytest.raises(Conflict):
                lifecycle.edit(actor=TESTS, key_id=key.id, changed=changed)
            return False
        lifecycle.edit(actor=TESTS, key_id=key.id, changed=changed)
        return True

    @rule(name=st.sampled_from(GROUPS), networks=st.booleans())
    def edit_policy(self, name: str, networks: bool) -> None:
        changed = {"allowed_networks": ["10.0.0.0/8"] if networks else []}
        edit_group(actor=TESTS, group_id=self.groups[name].pk, changed=changed, existing_keys="leave")
        self.group_networks[name] = networks

    @rule(networks=st.booleans())
    def edit_installation(self, networks: bool) -> None:
        changed = {"allowed_networks": ["10.0.0.0/8"] if networks else []}
        installation.edit_policy(actor=TESTS, changed=changed, existing_keys="leave")
        self.networks_everywhere = networks

    @rule(name=st.sampled_from([None, *GROUPS]))
    def limit_gateway(self, name: str | None) -> None:
        served = [self.groups[name]] if name else []
        edit_gateway(actor=TESTS, gateway_id=self.gateway.gateway.pk, changed={"consumer_groups": served})
        self.limited_to = name

    # --- what else happens --------------------------------------------------------------------------------------------

    @rule(hours=HOURS)
    def time_passes(self, hours: timedelta) -> None:
        self.now += hours
        self.time.move_to(self.now, tick=False)

    @rule(number=st.integers(0, NODES - 1))
    def restart_node(self, number: int) -> None:
        self.nodes.pop(number)[1].close()
        self.start_node()

    @rule()
    def redis_drops_everybody(self) -> None:
        """As in a restart: all that it kept is gone, and so is every connection."""
        if django_settings.REDIS_URL and connection.vendor == "postgresql":
            with Redis.from_url(django_settings.REDIS_URL) as client:
                client.flushall()
                client.client_kill_filter(_type="pubsub", skipme=True)
                client.client_kill_filter(_type="normal", skipme=True)

    # --- questions ----------------------------------------------------------------------------------------------------

    @rule(value=values, number=st.integers(0, NODES - 1), stated=st.sampled_from([None, *GROUPS]), inside=st.booleans())
    def authorize(self, value: str, number: int, stated: str | None, inside: bool) -> None:
        headers = {"x_keeptrusts_client_ip": INSIDE if inside else OUTSIDE}
        if stated:
            headers["x_keeptrusts_consumer_group"] = self.groups[stated].slug
        answer = self.nodes[number][0].authorize(self.gateway.value, value, **headers)
        expected = self.expected(value, stated, inside=inside)
        assert (answer.reason or "allowed") == expected
        self.key_of(value).served += expected == "allowed"

    def expected(self, value: str, stated: str | None, *, inside: bool) -> str:
        key = self.key_of(value)
        until = key.values[value]
        if key.revoked:
            return "key_revoked"
        if self.expired(key):
            return "key_expired"
        if key.disabled:
            return "key_disabled"
        if until is not None and until <= self.now:
            return "grace_over"
        traffic = key.group or stated
        if self.limited_to and traffic and traffic != self.limited_to:
            return "gateway_not_allowed"
        if key.group and stated and stated != key.group:
            return "group_mismatch"
        of_group = key.group and self.group_networks[key.group]
        if not inside and (key.networks or of_group or self.networks_everywhere):
            return "network_not_allowed"
        return "allowed"

    @invariant()
    def what_is_stored_fits_the_model(self) -> None:
        stored = {key.pk: key for key in GatewayKey.objects.filter(pk__in=[key.id for key in self.keys])}
        for key in self.keys:
            assert (stored[key.id].revoked_at is not None, stored[key.id].disabled_at is not None) == (
                key.revoked,
                key.disabled,
            )

    def counted(self) -> None:
        """Every allowed request was counted once, whichever node answered it."""
        metrics = dict(KeyMetrics.objects.values_list("key", "total_requests"))
        assert {key.id: metrics.get(key.id, 0) for key in self.keys} == {key.id: key.served for key in self.keys}

    # --- the model's own words ----------------------------------------------------------------------------------------

    def key_of(self, value: str) -> ModelKey:
        return next(key for key in self.keys if value in key.values)

    def expired(self, key: ModelKey) -> bool:
        return key.expires_at is not None and key.expires_at <= self.now

    def cut_grace(self, key: ModelKey) -> None:
        """No grace outlives the key."""
        if key.expires_at is not None:
            for value, until in key.values.items():
                if until is not None and until > key.expires_at:
                    key.values[value] = key.expires_at


def run(*, examples: int, steps: int) -> None:
    class Counting(Lifecycle):
        def teardown(self) -> None:
            super().teardown()
            self.counted()

    run_state_machine_as_test(
        Counting,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_events_is_decided_as_the_model_says(transactional_db: None) -> None:
    run(examples=6, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_orders_of_events_are_decided_as_the_model_says(transactional_db: None) -> None:
    run(examples=20, steps=80)

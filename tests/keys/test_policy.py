"""Two policies, the group's and the installation's: the stricter holds, in every verb, and says whose rule it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError

from access.models import Member
from access.refusals import Conflict, Forbidden
from audit.models import AuditEntry
from keys import bulk, lifecycle
from keys.breaches import BreachKind, breaches, in_breach
from keys.groups import edit_group, preview_group
from keys.installation import edit_policy, preview_policy
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from keys.networks import narrowed_to, outside
from keys.policy import Policies, in_words, rules_of
from keys.policy_impact import NARROWED, Impact
from tests.factories import TESTS, actor_of, make_group, make_key
from usage.models import KeyMetrics

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def everywhere(existing_keys: str | None = None, **rules: Any) -> InstallationPolicy:
    return edit_policy(actor=TESTS, changed=rules, existing_keys=existing_keys)


def tighten(group: ConsumerGroup, existing_keys: str | None = None, **rules: Any) -> ConsumerGroup:
    return edit_group(actor=TESTS, group_id=group.pk, changed=rules, existing_keys=existing_keys)


def kinds(key: GatewayKey) -> set[BreachKind]:
    """Return what the key breaks now; by the one key, which must be what the condition on many says."""
    key = GatewayKey.objects.select_related("consumer_group", "metrics").get(pk=key.pk)
    policies = Policies.load()
    found = {breach.kind for breach in breaches(key, policies.of(key), datetime.now(UTC))}
    assert bool(found) == GatewayKey.objects.filter(in_breach(policies, datetime.now(UTC)), pk=key.pk).exists()
    return found


def entries(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


# --- the stricter of both ---------------------------------------------------------------------------------------------


def test_a_new_installation_has_its_policy_and_no_rule() -> None:
    assert InstallationPolicy.objects.get().pk == 1
    assert in_words(rules_of(None)) == ["No rule: a key may live for ever, from anywhere."]


@pytest.mark.parametrize(
    ("of_all", "of_group", "expected"),
    [
        (None, 30, "The policy of payments allows at most 30 days"),
        (30, None, "The installation's policy allows at most 30 days"),
        (90, 30, "The policy of payments allows at most 30 days"),
        (30, 30, "The policy of payments allows at most 30 days"),
    ],
)
def test_the_lower_ceiling_holds_and_says_whose_it_is(of_all: int, of_group: int, expected: str) -> None:
    everywhere(max_lifetime_days=of_all)
    group = make_group("payments", max_lifetime_days=of_group)
    with pytest.raises(ValidationError, match=expected):
        make_key(consumer_group=group, expires_at=START + 31 * DAY)
    assert make_key(consumer_group=group, expires_at=START + 30 * DAY)


def test_an_unscoped_key_falls_under_the_installations_policy() -> None:
    everywhere(expiry_required=True, max_grace_seconds=60, default_lifetime_days=10)
    with pytest.raises(ValidationError, match="The installation's policy requires an expiry"):
        make_key(expires_at=None)
    key = make_key().key
    assert key.expires_at == START + 10 * DAY
    with pytest.raises(ValidationError, match="The installation's policy allows at most 60 seconds"):
        lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=HOUR)
    lifecycle.rotate(actor=TESTS, key_id=key.pk)
    with pytest.raises(ValidationError, match="The installation's policy allows at most 60 seconds"):
        lifecycle.extend_grace(actor=TESTS, key_id=key.pk, grace=HOUR)


def test_a_default_of_the_group_is_cut_to_what_the_installation_allows() -> None:
    group = make_group(default_lifetime_days=60)
    everywhere(max_lifetime_days=20)
    assert make_key(consumer_group=group).key.expires_at == START + 20 * DAY


@pytest.mark.parametrize(
    ("of_all", "looser"),
    [
        ({"max_lifetime_days": 30}, {"max_lifetime_days": 31}),
        ({"max_lifetime_days": 30}, {"default_lifetime_days": 31}),
        ({"max_grace_seconds": 60}, {"max_grace_seconds": 61}),
        ({"idle_days": 30}, {"idle_days": 31}),
        ({"allowed_networks": ["10.0.0.0/8"]}, {"allowed_networks": ["10.0.0.0/8", "192.0.2.0/24"]}),
        ({"allowed_networks": ["10.0.0.0/8"]}, {"allowed_networks": ["0.0.0.0/0"]}),
    ],
)
def test_a_group_may_not_be_looser_than_the_installation(of_all: dict[str, Any], looser: dict[str, Any]) -> None:
    group = make_group()
    everywhere(**of_all)
    with pytest.raises(ValidationError) as refused:
        tighten(group, **looser)
    (field,) = looser
    assert refused.value.error_dict[field][0].code == "looser_than_installation"
    tighten(group, **of_all)


def test_a_rule_that_was_there_before_the_installations_may_stay_and_does_not_hold() -> None:
    group = make_group(max_lifetime_days=90)
    everywhere(max_lifetime_days=30)
    tighten(group, description="still 90", max_lifetime_days=90)
    with pytest.raises(ValidationError, match="The installation's policy allows at most 30 days"):
        make_key(consumer_group=group, expires_at=START + 60 * DAY)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "allowed", "beyond", "part"),
    [
        (["10.1.0.0/16"], ["10.0.0.0/8"], [], ["10.1.0.0/16"]),
        (["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"], ["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"]),
        (["192.0.2.0/24", "10.1.2.3/32"], ["10.0.0.0/8"], ["192.0.2.0/24"], ["10.1.2.3/32"]),
        (["2001:db8::/48"], ["10.0.0.0/8", "2001:db8::/32"], [], ["2001:db8::/48"]),
        (["0.0.0.0/0"], ["::/0"], ["0.0.0.0/0"], []),
        (["10.0.0.0/8"], [], [], []),
        ([], ["10.0.0.0/8"], [], []),
    ],
)
def test_networks_lie_within_or_are_narrowed(
    networks: list[str], allowed: list[str], beyond: list[str], part: list[str]
) -> None:
    assert outside(networks, allowed) == beyond
    assert narrowed_to(networks, allowed) == part


def test_a_keys_networks_lie_within_those_of_both_policies() -> None:
    everywhere(allowed_networks=["10.0.0.0/8"])
    group = make_group("payments", allowed_networks=["10.1.0.0/16"])
    with pytest.raises(ValidationError, match="not within what the policy of payments allows"):
        make_key(consumer_group=group, allowed_networks=["10.2.0.0/16"])
    with pytest.raises(ValidationError, match="not within what the installation's policy allows"):
        make_key(allowed_networks=["192.0.2.0/24"])
    key = make_key(consumer_group=group, allowed_networks=["10.1.2.0/24"]).key
    with pytest.raises(ValidationError, match="not within"):
        lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"allowed_networks": ["0.0.0.0/0"]})
    lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"allowed_networks": []})


# --- every verb asks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("particulars", "rules", "said"),
    [
        ({"expires_at": None}, {"expiry_required": True}, "requires an expiry"),
        ({"expires_at": START + 90 * DAY}, {"max_lifetime_days": 30}, "at most 30 days"),
        ({"allowed_networks": ["192.0.2.0/24"]}, {"allowed_networks": ["10.0.0.0/8"]}, "not within"),
    ],
)
def test_a_key_is_not_moved_into_a_group_whose_policy_it_breaks(
    particulars: dict[str, Any], rules: dict[str, Any], said: str
) -> None:
    key, strict = make_key(**particulars).key, make_group(**rules)
    with pytest.raises(ValidationError, match=said):
        lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"consumer_group": strict})
    plan = bulk.Scope(strict)
    assert said in plan.why_not(GatewayKey.objects.get(pk=key.pk), START)


def test_a_key_whose_grace_is_too_long_for_a_group_is_moved_when_it_has_ended() -> None:
    key, strict = make_key().key, make_group("strict", max_grace_seconds=60)
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=HOUR)
    with pytest.raises(ValidationError, match=r"The policy of strict allows at most 1 minute of grace.*End its grace"):
        lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"consumer_group": strict})
    lifecycle.end_grace(actor=TESTS, key_id=key.pk)
    lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"consumer_group": strict})


def test_a_disabled_key_that_breaks_todays_policy_is_mended_before_it_is_enabled() -> None:
    group = make_group("payments")
    key = make_key(consumer_group=group, expires_at=None).key
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    tighten(group, "leave", max_lifetime_days=30)
    with pytest.raises(Conflict, match="The policy of payments requires an expiry") as refused:
        lifecycle.enable(actor=TESTS, key_id=key.pk)
    assert refused.value.code == "policy_breached"
    lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"expires_at": START + 30 * DAY})
    lifecycle.enable(actor=TESTS, key_id=key.pk)


def test_a_rotation_renews_within_the_stricter_policy() -> None:
    group = make_group(max_lifetime_days=90)
    key = make_key(consumer_group=group).key
    everywhere("leave", max_lifetime_days=20)
    rotated = lifecycle.rotate(actor=TESTS, key_id=key.pk).key
    assert rotated.expires_at == START + 20 * DAY
    assert not kinds(rotated)


# --- what a change breaks ---------------------------------------------------------------------------------------------


def keys_of(group: ConsumerGroup | None) -> dict[str, GatewayKey]:
    """Make keys of which each breaks one rule of STRICT, and one that breaks none."""
    made = {
        "for_ever": make_key(consumer_group=group, expires_at=None, allowed_networks=["10.0.0.0/16"]).key,
        "late": make_key(consumer_group=group, expires_at=START + 90 * DAY, allowed_networks=["10.0.0.0/16"]).key,
        "lingers": make_key(consumer_group=group, expires_at=START + 9 * DAY, allowed_networks=["10.0.0.0/16"]).key,
        "abroad": make_key(consumer_group=group, expires_at=START + 9 * DAY, allowed_networks=["0.0.0.0/0"]).key,
        "anywhere": make_key(consumer_group=group, expires_at=START + 9 * DAY).key,
        "sound": make_key(consumer_group=group, expires_at=START + 9 * DAY, allowed_networks=["10.0.0.0/16"]).key,
    }
    lifecycle.rotate(actor=TESTS, key_id=made["lingers"].pk, grace=2 * DAY, renew_expiry=False)
    revoked = make_key(consumer_group=group, expires_at=None).key
    lifecycle.revoke(actor=TESTS, key_id=revoked.pk)
    return made


STRICT: dict[str, Any] = {"max_lifetime_days": 30, "max_grace_seconds": 3_600, "allowed_networks": ["10.0.0.0/8"]}
BROKEN = {
    "for_ever": ["expiry_missing"],
    "late": ["expiry_too_late"],
    "lingers": ["grace_too_long"],
    "abroad": ["network_outside"],
    "anywhere": [NARROWED],
}


def of_group() -> tuple[ConsumerGroup | None, Callable[..., Any], Callable[..., Impact]]:
    group = make_group("payments")

    def preview(**rules: Any) -> Impact:
        return preview_group(actor=TESTS, group_id=group.pk, changed=rules)

    return group, lambda choice=None, **rules: tighten(group, choice, **rules), preview


def of_installation() -> tuple[ConsumerGroup | None, Callable[..., Any], Callable[..., Impact]]:
    return None, everywhere, lambda **rules: preview_policy(actor=TESTS, changed=rules)


@pytest.mark.parametrize("whose", [of_group, of_installation])
def test_the_preview_lists_what_breaks_in_which_key_and_changes_nothing(whose: Callable[[], Any]) -> None:
    group, _, preview = whose()
    made = keys_of(group)
    before = list(GatewayKey.objects.order_by("pk").values()), AuditEntry.objects.count()
    found = preview(**STRICT)
    names = {key.pk: name for name, key in made.items()}
    told = {names[one.key.pk]: [effect.code for effect in one.effects] for one in found.keys}
    assert told == BROKEN
    assert (found.count, found.kinds) == (5, {code: 1 for (code,) in BROKEN.values()})
    assert before == (list(GatewayKey.objects.order_by("pk").values()), AuditEntry.objects.count())


@pytest.mark.parametrize("whose", [of_group, of_installation])
def test_a_change_that_breaks_keys_is_refused_until_it_was_said_what_becomes_of_them(whose: Callable[[], Any]) -> None:
    group, edit, _ = whose()
    made = keys_of(group)
    with pytest.raises(Conflict) as refused:
        edit(**STRICT)
    assert refused.value.code == "policy_breaks_keys"
    assert refused.value.more["count"] == 5
    assert set(refused.value.more["ids"]) == {str(made[name].pk) for name in BROKEN}
    assert rules_of(group and ConsumerGroup.objects.get()).max_lifetime is None
    with pytest.raises(ValidationError):
        edit("perhaps", **STRICT)


@pytest.mark.parametrize("whose", [of_group, of_installation])
def test_keys_that_are_left_stay_as_they_are_and_are_listed(whose: Callable[[], Any]) -> None:
    group, edit, _ = whose()
    made = keys_of(group)
    before = list(GatewayKey.objects.order_by("pk").values())
    edit("leave", **STRICT)
    assert before == list(GatewayKey.objects.order_by("pk").values())
    assert {name: sorted(kinds(key)) for name, key in made.items() if kinds(key)} == {
        name: codes for name, codes in BROKEN.items() if codes != [NARROWED]
    }
    (entry,) = entries("consumer_group.edited" if group else "policy.edited")
    assert entry.detail == {"existing_keys": "leave", "breaks": 5}
    # What they were left with is no breach of the next change, unless that breaks something else in them.
    edit(idle_days=400)
    lifecycle.edit(actor=TESTS, key_id=made["late"].pk, changed={"name": "still works"})


@pytest.mark.parametrize("whose", [of_group, of_installation])
def test_keys_are_brought_into_line_each_with_its_entries(whose: Callable[[], Any]) -> None:
    group, edit, _ = whose()
    made = keys_of(group)
    policy = edit("align", **STRICT)
    errors = {result.key_id: result.why_not for result in policy.alignment}
    # In line already, once gateways hold the policy's networks.
    assert {key_id for key_id, why in errors.items() if why} <= {made["anywhere"].pk}
    assert not any(kinds(key) for key in made.values())
    found = {name: GatewayKey.objects.get(pk=key.pk) for name, key in made.items()}
    assert found["for_ever"].expires_at == found["late"].expires_at == START + 30 * DAY
    assert found["lingers"].grace_until == START + HOUR
    assert found["abroad"].allowed_networks == ["10.0.0.0/8"]
    assert found["sound"].expires_at == START + 9 * DAY
    assert len(entries("gateway_key.edited")) == 3
    (shortened,) = entries("gateway_key.grace_shortened")
    assert shortened.object_id == str(made["lingers"].pk)


def test_no_grace_at_all_ends_what_runs() -> None:
    group = make_group()
    key = make_key(consumer_group=group).key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=HOUR)
    tighten(group, "align", max_grace_seconds=0)
    assert key.versions.filter(valid_until__gt=START).count() == 0
    assert len(entries("gateway_key.grace_ended")) == 1


def test_a_key_that_cannot_be_brought_into_line_is_left_and_says_why() -> None:
    group = make_group()
    abroad = make_key(consumer_group=group, allowed_networks=["192.0.2.0/24"]).key
    (result,) = tighten(group, "align", allowed_networks=["10.0.0.0/8"]).alignment or []
    assert (result.key_id, "None of its networks" in result.why_not) == (abroad.pk, True)
    assert kinds(abroad) == {BreachKind.NETWORK_OUTSIDE}
    unproposed = make_group()
    make_key(consumer_group=unproposed, expires_at=None)
    (result,) = tighten(unproposed, "align", expiry_required=True).alignment or []
    assert "requires an expiry" in result.why_not


def test_a_looser_policy_breaks_nothing() -> None:
    group = make_group(max_lifetime_days=30, allowed_networks=["10.0.0.0/16"], max_grace_seconds=60, idle_days=10)
    make_key(consumer_group=group)
    tighten(group, max_lifetime_days=60, allowed_networks=["10.0.0.0/8"], max_grace_seconds=None, idle_days=None)


def test_the_installations_networks_spare_groups_that_are_within_them_already() -> None:
    inside = make_key(consumer_group=make_group(allowed_networks=["10.1.0.0/16"])).key
    anywhere, unscoped = make_key(consumer_group=make_group()).key, make_key().key
    found = preview_policy(actor=TESTS, changed={"allowed_networks": ["10.0.0.0/8"]})
    assert {one.key.pk for one in found.keys} == {anywhere.pk, unscoped.pk}
    assert inside.pk not in found.ids()


def test_idle_keys_are_told_with_the_day_on_which_they_are_revoked(clock: time_machine.Traveller) -> None:
    group = make_group("payments")
    key = make_key(consumer_group=group).key
    clock.shift(40 * DAY)
    (one,) = preview_group(actor=TESTS, group_id=group.pk, changed={"idle_days": 30}).keys
    assert one.key.pk == key.pk
    assert "2027-01-09" in one.effects[0].words, "seven days from now, not today"


# --- who may ----------------------------------------------------------------------------------------------------------


def test_only_admins_edit_the_installations_policy(admin: Member, manager: Member, auditor: Member) -> None:
    for member in (manager, auditor):
        with pytest.raises(Forbidden):
            edit_policy(actor=actor_of(member), changed={"idle_days": 9})
    edit_policy(actor=actor_of(admin), changed={"idle_days": 9})
    (entry,) = entries("policy.edited")
    assert (entry.before, entry.after, entry.actor_label) == ({"idle_days": None}, {"idle_days": 9}, admin.username)
    edit_policy(actor=actor_of(admin), changed={"idle_days": 9})
    assert len(entries("policy.edited")) == 1, "nothing new is no entry"


def test_breaches_of_the_last_use_come_from_the_figures(clock: time_machine.Traveller) -> None:
    everywhere(idle_days=10)
    used, unused = make_key().key, make_key().key
    clock.shift(11 * DAY)
    KeyMetrics.objects.create(key=used, last_used_at=START + 5 * DAY)
    assert (kinds(used), kinds(unused)) == (set(), {BreachKind.IDLE})

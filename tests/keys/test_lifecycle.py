"""Every verb in every status, by the table of design §5, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from access import tokens
from access.members import edit_member
from access.models import Member
from access.refusals import Conflict, Forbidden
from audit.actions import AuditAction
from audit.actor import Actor
from audit.models import AuditEntry
from audit.recording import plain
from keys import bulk, lifecycle
from keys.issuing import IssuedKey
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.status import KeyStatus, VersionState
from tests.factories import TESTS, actor_of, make_group, make_key, make_member

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def actor(admin: Member) -> Actor:
    return actor_of(admin)


def key_in(status: KeyStatus, actor: Actor) -> GatewayKey:
    """A key that has come into `status` by the verbs."""
    expires_at = START + HOUR if status is KeyStatus.EXPIRED else START + timedelta(days=30)
    with time_machine.travel(START - HOUR, tick=False):
        key = lifecycle.create(actor=actor, name=f"a key that is {status}", expires_at=expires_at - HOUR).key
        match status:
            case KeyStatus.ROTATING:
                lifecycle.rotate(actor=actor, key_id=key.id, grace=3 * HOUR)
            case KeyStatus.DISABLED:
                lifecycle.disable(actor=actor, key_id=key.id)
            case KeyStatus.REVOKED:
                lifecycle.revoke(actor=actor, key_id=key.id, reason="for the test")
            case _:
                pass
    key.refresh_from_db()
    assert key.status is status
    return key


def actions_of(key: GatewayKey) -> list[str]:
    return list(AuditEntry.objects.filter(object_id=str(key.id)).order_by("id").values_list("action", flat=True))


def state_of(key: GatewayKey) -> list[object]:
    return [*GatewayKey.objects.filter(pk=key.pk).values(), *KeyVersion.objects.filter(key=key).order_by("pk").values()]


VERBS: dict[str, Callable[[Actor, GatewayKey], object]] = {
    "edit": lambda actor, key: lifecycle.edit(actor=actor, key_id=key.id, changed={"name": "renamed"}),
    "rotate": lambda actor, key: lifecycle.rotate(actor=actor, key_id=key.id),
    "end_grace": lambda actor, key: lifecycle.end_grace(actor=actor, key_id=key.id),
    "disable": lambda actor, key: lifecycle.disable(actor=actor, key_id=key.id),
    "enable": lambda actor, key: lifecycle.enable(actor=actor, key_id=key.id),
    "revoke": lambda actor, key: lifecycle.revoke(actor=actor, key_id=key.id, reason="again"),
}
A, R, D, E, X = KeyStatus.ACTIVE, KeyStatus.ROTATING, KeyStatus.DISABLED, KeyStatus.EXPIRED, KeyStatus.REVOKED
# The table of design §5: the entry that a verb leaves, or the code of its refusal; None = 200, unchanged, no entry.
TABLE: dict[str, dict[KeyStatus, str | None]] = {
    "edit": {
        A: "gateway_key.edited",
        R: "gateway_key.edited",
        D: "gateway_key.edited",
        E: "key_expired",
        X: "key_revoked",
    },
    "rotate": {
        A: "gateway_key.rotated",
        R: "gateway_key.rotated",
        D: "key_disabled",
        E: "key_expired",
        X: "key_revoked",
    },
    "end_grace": {
        A: "not_in_grace",
        R: "gateway_key.grace_ended",
        D: "not_in_grace",
        E: "key_expired",
        X: "key_revoked",
    },
    "disable": {
        A: "gateway_key.disabled",
        R: "gateway_key.disabled",
        D: "key_disabled",
        E: "key_expired",
        X: "key_revoked",
    },
    "enable": {
        A: "not_disabled",
        R: "not_disabled",
        D: "gateway_key.enabled",
        E: "key_expired",
        X: "key_revoked",
    },
    "revoke": {
        A: "gateway_key.revoked",
        R: "gateway_key.revoked",
        D: "gateway_key.revoked",
        E: "gateway_key.revoked",
        X: None,
    },
}


@pytest.mark.parametrize("status", KeyStatus)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_in_each_status_what_the_table_says(verb: str, status: KeyStatus, actor: Actor) -> None:
    key = key_in(status, actor)
    before, said = state_of(key), actions_of(key)
    expected = TABLE[verb][status]
    if expected is not None and not expected.startswith("gateway_key."):
        with pytest.raises(Conflict) as refusal:
            VERBS[verb](actor, key)
        assert refusal.value.code == expected
        expected = None
    else:
        VERBS[verb](actor, key)
    if expected is None:
        assert state_of(key) == before
        assert actions_of(key) == said
    else:
        assert state_of(key) != before
        assert actions_of(key) == [*said, expected]


def test_grace_can_be_ended_while_the_key_is_disabled(actor: Actor) -> None:
    key = key_in(KeyStatus.ROTATING, actor)
    lifecycle.disable(actor=actor, key_id=key.id)
    lifecycle.end_grace(actor=actor, key_id=key.id)
    assert [version.state_at(START) for version in key.versions.all()] == [VersionState.CURRENT, VersionState.CLOSED]


def test_create_stores_the_digest_and_nothing_else_of_the_value(actor: Actor) -> None:
    issued = lifecycle.create(actor=actor, name="one", description="d", allowed_networks=["10.1.2.3", "2001:DB8::/32"])
    version = KeyVersion.objects.get(key=issued.key)
    assert bytes(version.digest) == tokens.digest(issued.value)
    assert version.hint == issued.key.hint == issued.value[:10] + "…"
    assert issued.value not in repr(issued)
    key = GatewayKey.objects.get()
    assert (key.name, key.description, key.created_at) == ("one", "d", START)
    assert key.allowed_networks == ["10.1.2.3/32", "2001:db8::/32"]
    assert key.created_by == actor.authority


def test_create_takes_the_policys_default_expiry_where_none_is_chosen(actor: Actor) -> None:
    group = make_group(default_lifetime_days=10, max_lifetime_days=20)
    assert lifecycle.create(actor=actor, name="k", consumer_group=group).key.expires_at == START + timedelta(days=10)
    capped = make_group(max_lifetime_days=20)
    assert lifecycle.create(actor=actor, name="k", consumer_group=capped).key.expires_at == START + timedelta(days=20)
    assert lifecycle.create(actor=actor, name="k").key.expires_at is None


@pytest.mark.parametrize(
    ("expires_at", "code"),
    [
        (None, "expiry_required"),
        (START, "in_the_past"),
        (START - HOUR, "in_the_past"),
        (START + timedelta(days=20, seconds=1), "lifetime_exceeded"),
        (datetime.max.replace(tzinfo=UTC), "lifetime_exceeded"),
    ],
)
def test_the_policy_refuses_an_expiry_that_it_does_not_allow(
    actor: Actor, expires_at: datetime | None, code: str
) -> None:
    group = make_group(max_lifetime_days=20, expiry_required=True)
    with pytest.raises(ValidationError) as refusal:
        lifecycle.create(actor=actor, name="k", consumer_group=group, expires_at=expires_at)
    assert refusal.value.error_dict["expires_at"][0].code == code
    key = lifecycle.create(actor=actor, name="k", consumer_group=group, expires_at=START + HOUR).key
    with pytest.raises(ValidationError) as refusal:
        lifecycle.edit(actor=actor, key_id=key.id, changed={"expires_at": expires_at})
    assert refusal.value.error_dict["expires_at"][0].code == code
    assert GatewayKey.objects.get().expires_at == START + HOUR


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("name", "", "blank"),
        ("name", "   ", "blank"),
        ("name", "x" * 10_000, "max_length"),
        ("name", "nul\x00byte", "control_character"),
        ("name", "two\nlines", "control_character"),
        ("name", "surrogate\ud800", "control_character"),
        ("description", "x" * 2_001, "max_length"),
        ("description", "nul\x00byte", "control_character"),
        ("description", "mine is " + tokens.generate(tokens.TokenKind.GATEWAY_KEY), "secret_value"),
    ],
)
def test_create_refuses_text_that_cannot_be_kept(actor: Actor, field: str, text: str, code: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        lifecycle.create(**{"actor": actor, "name": "k", field: text})  # type: ignore[arg-type]  # one of the texts
    assert refusal.value.error_dict[field][0].code == code
    assert not GatewayKey.objects.exists()


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "everywhere", "", "10.0.0.0/8\x00", "fe80::%eth0/64"])
def test_a_malformed_network_is_refused_by_name(actor: Actor, network: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        lifecycle.create(actor=actor, name="k", allowed_networks=["10.0.0.0/8", network])
    assert refusal.value.error_dict["allowed_networks"][0].code == "invalid_network"
    assert network[:20] in refusal.value.messages[0]


def rotated(actor: Actor, **particulars: Any) -> tuple[IssuedKey, IssuedKey]:
    issued = make_key(**particulars)
    return issued, lifecycle.rotate(actor=actor, key_id=issued.key.id)


def test_rotate_puts_the_old_version_in_grace_for_a_day(actor: Actor) -> None:
    first, second = rotated(actor)
    old, new = KeyVersion.objects.get(number=1), KeyVersion.objects.get(number=2)
    assert old.valid_until == START + timedelta(hours=24)
    assert new.valid_until is None
    assert bytes(new.digest) == tokens.digest(second.value)
    assert first.value != second.value
    assert second.key.status is KeyStatus.ROTATING
    assert second.key.hint == new.hint
    assert second.key.id == first.key.id


def test_several_versions_may_be_in_grace_at_once(actor: Actor, clock: time_machine.Traveller) -> None:
    key = make_key().key
    lifecycle.rotate(actor=actor, key_id=key.id, grace=3 * HOUR)
    lifecycle.rotate(actor=actor, key_id=key.id, grace=HOUR)
    states = {version.number: version.state_at(START) for version in key.versions.all()}
    assert states == {1: VersionState.GRACE, 2: VersionState.GRACE, 3: VersionState.CURRENT}
    clock.shift(2 * HOUR)
    key.refresh_from_db()
    statuses = [key.status]
    clock.shift(HOUR)
    statuses.append(key.status)
    assert statuses == [KeyStatus.ROTATING, KeyStatus.ACTIVE]


def test_a_grace_of_zero_closes_the_old_version_at_once(actor: Actor) -> None:
    key = make_key().key
    issued = lifecycle.rotate(actor=actor, key_id=key.id, grace=timedelta(0))
    assert issued.key.status is KeyStatus.ACTIVE
    assert KeyVersion.objects.get(number=1).state_at(START) is VersionState.CLOSED


def test_the_group_caps_the_default_grace_and_refuses_a_longer_one(actor: Actor) -> None:
    key = make_key(consumer_group=make_group(max_grace_seconds=60)).key
    with pytest.raises(ValidationError) as refusal:
        lifecycle.rotate(actor=actor, key_id=key.id, grace=timedelta(seconds=61))
    assert refusal.value.error_dict["grace_seconds"][0].code == "grace_exceeded"
    lifecycle.rotate(actor=actor, key_id=key.id)
    assert KeyVersion.objects.get(number=1).valid_until == START + timedelta(seconds=60)


@pytest.mark.parametrize("seconds", [-1, 366 * 24 * 60 * 60])
def test_a_grace_out_of_range_is_refused(actor: Actor, seconds: int) -> None:
    key = make_key().key
    with pytest.raises(ValidationError):
        lifecycle.rotate(actor=actor, key_id=key.id, grace=timedelta(seconds=seconds))
    assert KeyVersion.objects.count() == 1


def test_grace_never_outlives_the_key(actor: Actor) -> None:
    key = make_key(expires_at=START + 2 * HOUR).key
    lifecycle.rotate(actor=actor, key_id=key.id, grace=24 * HOUR, renew_expiry=False)
    assert KeyVersion.objects.get(number=1).valid_until == START + 2 * HOUR
    lifecycle.edit(actor=actor, key_id=key.id, changed={"expires_at": START + HOUR})
    key.refresh_from_db()
    assert KeyVersion.objects.get(number=1).valid_until == key.grace_until == START + HOUR


def test_rotate_renews_the_expiry_by_the_keys_lifetime(actor: Actor, clock: time_machine.Traveller) -> None:
    key = make_key(expires_at=START + timedelta(days=30)).key
    clock.shift(timedelta(days=29))
    assert lifecycle.rotate(actor=actor, key_id=key.id).key.expires_at == START + timedelta(days=59)
    kept = lifecycle.rotate(actor=actor, key_id=key.id, renew_expiry=False).key
    assert kept.expires_at == START + timedelta(days=59)


def test_a_renewal_stays_within_the_policy_of_today(actor: Actor) -> None:
    key = make_key(consumer_group=make_group(), expires_at=START + timedelta(days=300)).key
    assert key.consumer_group
    key.consumer_group.max_lifetime_days = 10
    key.consumer_group.save()
    assert lifecycle.rotate(actor=actor, key_id=key.id).key.expires_at == START + timedelta(days=10)


def test_a_renewal_that_the_policy_cuts_ends_the_grace_that_runs_with_it(actor: Actor) -> None:
    key = make_key(consumer_group=make_group(), expires_at=START + timedelta(days=300)).key
    lifecycle.rotate(actor=actor, key_id=key.id, grace=timedelta(days=60))
    ConsumerGroup.objects.update(max_lifetime_days=10)
    key = lifecycle.rotate(actor=actor, key_id=key.id, grace=HOUR).key
    assert KeyVersion.objects.get(number=1).valid_until == key.grace_until == key.expires_at


def test_edit_changes_only_what_is_named_and_records_both_sides(actor: Actor) -> None:
    group = make_group()
    key = make_key(name="before", description="stays").key
    lifecycle.edit(actor=actor, key_id=key.id, changed={"name": "after", "consumer_group": group})
    key.refresh_from_db()
    assert (key.name, key.description, key.consumer_group) == ("after", "stays", group)
    entry = AuditEntry.objects.get(action="gateway_key.edited")
    assert entry.before == {"name": "before", "consumer_group": None, "consumer_group_id": None}
    assert entry.after == {"name": "after", "consumer_group": group.slug, "consumer_group_id": group.pk}
    assert (entry.actor_label, entry.object_label, entry.object_id) == (actor.label, "after", str(key.id))


def test_an_edit_that_changes_nothing_leaves_no_entry(actor: Actor) -> None:
    key = make_key(name="same").key
    lifecycle.edit(actor=actor, key_id=key.id, changed={"name": "same", "consumer_group": None})
    assert actions_of(key) == ["gateway_key.created"]


def test_edit_refuses_a_field_that_is_not_for_editing(actor: Actor) -> None:
    key = make_key().key
    with pytest.raises(ValidationError) as refusal:
        lifecycle.edit(actor=actor, key_id=key.id, changed={"revoked_at": None, "name": "x"})
    assert refusal.value.error_dict["revoked_at"][0].code == "unknown_field"


def test_moving_a_key_holds_its_expiry_against_the_new_policy(actor: Actor) -> None:
    key = make_key(expires_at=START + timedelta(days=90)).key
    strict = make_group(max_lifetime_days=30)
    with pytest.raises(ValidationError):
        lifecycle.edit(actor=actor, key_id=key.id, changed={"consumer_group": strict})
    moved = {"consumer_group": strict, "expires_at": START + timedelta(days=30)}
    assert lifecycle.edit(actor=actor, key_id=key.id, changed=moved).consumer_group == strict


def test_a_manager_moves_a_key_only_between_groups_that_are_theirs(manager: Member, admin: Member) -> None:
    mine, open_to_all, foreign = make_group(managers=[manager]), make_group(), make_group()
    foreign.managers.add(make_member("manager"))
    key = make_key(consumer_group=mine).key
    lifecycle.edit(actor=actor_of(manager), key_id=key.id, changed={"consumer_group": open_to_all})
    for target in (foreign, None):
        with pytest.raises(Forbidden):
            lifecycle.edit(actor=actor_of(manager), key_id=key.id, changed={"consumer_group": target})
    lifecycle.edit(actor=actor_of(admin), key_id=key.id, changed={"consumer_group": foreign})
    with pytest.raises(Forbidden):
        lifecycle.edit(actor=actor_of(manager), key_id=key.id, changed={"consumer_group": mine})


def test_an_unscoped_key_is_managed_only_by_who_manages_every_group(manager: Member) -> None:
    key = make_key().key
    make_group()
    lifecycle.rotate(actor=actor_of(manager), key_id=key.id)
    make_group(managers=[make_member("manager")])
    with pytest.raises(Forbidden):
        lifecycle.rotate(actor=actor_of(manager), key_id=key.id)


@pytest.mark.parametrize("verb", VERBS)
def test_an_auditor_may_do_nothing_to_a_key(verb: str, auditor: Member) -> None:
    key = make_key().key
    before = state_of(key)
    with pytest.raises(Forbidden):
        VERBS[verb](actor_of(auditor), key)
    with pytest.raises(Forbidden):
        lifecycle.create(actor=actor_of(auditor), name="k")
    assert state_of(key) == before


def test_revoke_says_who_when_and_why_once(actor: Actor, clock: time_machine.Traveller) -> None:
    key = make_key().key
    lifecycle.rotate(actor=actor, key_id=key.id)
    lifecycle.revoke(actor=actor, key_id=key.id, reason="leaked")
    clock.shift(HOUR)
    again = lifecycle.revoke(actor=actor, key_id=key.id, reason="other")
    assert (again.revoked_at, again.revoked_by, again.revoke_reason) == (START, actor.authority, "leaked")
    assert again.grace_until is None
    assert KeyVersion.objects.get(number=1).state_at(START) is VersionState.CLOSED
    assert AuditEntry.objects.get(action="gateway_key.revoked").after["revoke_reason"] == "leaked"


def test_revoke_many_gives_a_result_for_each_key_in_order(manager: Member) -> None:
    mine = make_key(consumer_group=make_group(managers=[manager])).key
    foreign = make_key(consumer_group=make_group(managers=[make_member("manager")])).key
    missing = GatewayKey(name="never saved").id
    results = bulk.apply_many(
        actor=actor_of(manager), fix=bulk.Revoke(), key_ids=[foreign.id, mine.id, missing, mine.id]
    )
    assert [(result.key_id, type(result.error)) for result in results] == [
        (foreign.id, Forbidden),
        (mine.id, type(None)),
        (missing, GatewayKey.DoesNotExist),
    ]
    assert set(GatewayKey.objects.filter(revoked_at__isnull=False)) == {mine}


def test_revoke_many_refuses_too_many_before_it_does_anything(actor: Actor) -> None:
    key = make_key().key
    with pytest.raises(ValidationError):
        bulk.apply_many(actor=actor, fix=bulk.Revoke(), key_ids=[key.id, *(GatewayKey().id for _ in range(1_000))])
    assert not GatewayKey.objects.filter(revoked_at__isnull=False).exists()


def test_nothing_happens_when_the_audit_entry_cannot_be_written(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb, with an audit log that fails: the state is as before (design §3.1)."""
    keys = {status: key_in(status, actor) for status in KeyStatus}

    def fail(**_: object) -> None:
        raise RuntimeError("the audit log is full")

    monkeypatch.setattr("audit.recording.AuditEntry.objects.create", fail)
    before = {status: state_of(key) for status, key in keys.items()}
    for verb, outcomes in TABLE.items():
        for status, expected in outcomes.items():
            if expected and expected.startswith("gateway_key."):
                with pytest.raises(RuntimeError, match="audit log"):
                    VERBS[verb](actor, keys[status])
    with pytest.raises(RuntimeError, match="audit log"):
        lifecycle.create(actor=actor, name="never")
    assert {status: state_of(key) for status, key in keys.items()} == before
    assert not GatewayKey.objects.filter(name="never").exists()


def test_the_audit_log_never_holds_a_value(actor: Actor) -> None:
    first, second = rotated(actor)
    text = str(list(AuditEntry.objects.values()))
    assert first.key.hint[:10] in text
    for secret in (first.value, second.value, first.value[10:], second.value[10:]):
        assert secret not in text
    assert first.value not in str(plain({first.value: [first.value]}))


def broken_rows(key: GatewayKey) -> dict[str, Callable[[], object]]:
    version = key.versions.get()
    return {
        "version_digest_length": lambda: KeyVersion.objects.create(
            key=key, number=9, digest=b"short", hint="h", created_at=START, valid_until=START
        ),
        "version_one_current": lambda: KeyVersion.objects.create(
            key=key, number=9, digest=b"x" * 32, hint="h", created_at=START
        ),
        "digest once": lambda: KeyVersion.objects.create(
            key=key, number=9, digest=bytes(version.digest), hint="h", created_at=START, valid_until=START
        ),
        "version_number_once": lambda: KeyVersion.objects.create(
            key=key, number=1, digest=b"y" * 32, hint="h", created_at=START, valid_until=START
        ),
        "key_expiry_after_creation": lambda: GatewayKey.objects.filter(pk=key.pk).update(
            expires_at=START - 400 * timedelta(days=1), lifetime=HOUR
        ),
        "key_lifetime_with_expiry": lambda: GatewayKey.objects.filter(pk=key.pk).update(lifetime=HOUR),
        "key_name_given": lambda: GatewayKey.objects.filter(pk=key.pk).update(name=""),
        "key_revocation_whole": lambda: GatewayKey.objects.filter(pk=key.pk).update(revoke_reason="no date"),
    }


@pytest.mark.parametrize(
    "rule",
    [
        "version_digest_length",
        "version_one_current",
        "digest once",
        "version_number_once",
        "key_expiry_after_creation",
        "key_lifetime_with_expiry",
        "key_name_given",
        "key_revocation_whole",
    ],
)
def test_the_database_holds_the_rule_even_against_our_own_code(rule: str) -> None:
    key = make_key().key
    with pytest.raises(IntegrityError), transaction.atomic():
        broken_rows(key)[rule]()


# --- owners -----------------------------------------------------------------------------------------------------------


def test_a_key_belongs_to_who_makes_it(actor: Actor, manager: Member) -> None:
    assert lifecycle.create(actor=actor, name="mine").key.owner == actor.authority
    assert lifecycle.create(actor=actor, name="theirs", owner=manager).key.owner == manager
    assert lifecycle.create(actor=actor, name="nobodys", owner=None).key.owner is None
    assert make_key().key.owner is None


def test_another_owner_is_recorded_by_name(actor: Actor, manager: Member) -> None:
    key = make_key().key
    lifecycle.edit(actor=actor, key_id=key.pk, changed={"owner": manager})
    entry = AuditEntry.objects.get(action=AuditAction.KEY_EDITED)
    assert (entry.before, entry.after) == (
        {"owner": None, "owner_id": None},
        {"owner": manager.username, "owner_id": manager.pk},
    )


def test_a_new_owner_is_active_but_who_has_left_may_stay(actor: Actor, manager: Member) -> None:
    key = make_key(owner=manager).key
    edit_member(actor=TESTS, member_id=manager.pk, changed={"is_active": False})
    lifecycle.edit(actor=actor, key_id=key.pk, changed={"owner": manager, "name": "renamed"})
    with pytest.raises(ValidationError) as refused:
        lifecycle.edit(actor=actor, key_id=make_key().key.pk, changed={"owner": manager})
    assert [*refused.value.message_dict] == ["owner"]
    with pytest.raises(ValidationError):
        lifecycle.create(actor=actor, name="theirs", owner=manager)

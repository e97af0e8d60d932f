from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from access import access_keys, members, tokens
from access.models import AccessKey, Member
from access.refusals import Conflict, Forbidden
from access.rules import Role
from access.tokens import TokenKind
from audit import clock
from audit.models import AuditEntry
from gateways.models import GatewayToken
from tests.factories import PASSWORD, TESTS, actor_of, make_access_key, make_member

pytestmark = pytest.mark.django_db


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def test_each_kind_of_change_of_a_member_is_an_entry_of_its_own(admin: Member, auditor: Member) -> None:
    before = len(actions())
    changed = {"role": Role.MANAGER, "is_active": False, "name": "Amy"}
    members.edit_member(actor=actor_of(admin), member_id=auditor.pk, changed=changed)
    assert actions()[before:] == ["member.role_changed", "member.deactivated", "member.edited"]
    members.edit_member(actor=actor_of(admin), member_id=auditor.pk, changed=changed)
    assert len(actions()) == before + 3, "nothing new, no entry"
    entry = AuditEntry.objects.get(action="member.role_changed")
    assert (entry.before, entry.after) == ({"role": "auditor"}, {"role": "manager"})


@pytest.mark.parametrize("changed", [{"is_active": False}, {"role": Role.AUDITOR}])
def test_the_last_admin_cannot_leave(admin: Member, changed: dict[str, object]) -> None:
    make_member(Role.MANAGER)
    with pytest.raises(Conflict) as refusal:
        members.edit_member(actor=actor_of(admin), member_id=admin.pk, changed=changed)
    assert refusal.value.code == "last_admin"
    other = make_member(Role.ADMIN)
    members.edit_member(actor=actor_of(other), member_id=admin.pk, changed=changed)


@pytest.mark.django_db(transaction=True)
def test_two_admins_cannot_take_each_other_out_at_once() -> None:
    pair = [make_member(Role.ADMIN), make_member(Role.ADMIN)]
    barrier = threading.Barrier(2)

    def take_out(actor: Member, other: Member) -> None:
        barrier.wait(timeout=30)
        try:
            members.edit_member(actor=actor_of(actor), member_id=other.pk, changed={"is_active": False})
        except (Conflict, Forbidden):
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take_out, pair, reversed(pair)))
    assert Member.objects.filter(role=Role.ADMIN, is_active=True).count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "with space"),
        ("username", "ada.admin"),
        ("username", "x" * 151),
        ("username", "nul\x00"),
        ("password", "short"),
        ("password", "password1234"),
        ("role", "owner"),
        ("email", "not an address"),
    ],
)
def test_a_member_with_bad_particulars_is_refused_at_the_field(admin: Member, field: str, value: str) -> None:
    particulars = {"username": "new", "password": PASSWORD, "role": "auditor", "name": "", "email": "", field: value}
    with pytest.raises(ValidationError) as refusal:
        members.create_member(actor=actor_of(admin), **particulars)
    assert set(refusal.value.error_dict) == {field}
    assert Member.objects.count() == 1


def test_only_an_admin_adds_members(manager: Member) -> None:
    with pytest.raises(Forbidden):
        members.create_member(actor=actor_of(manager), username="x", password=PASSWORD, role="admin")


def test_taken_out_sessions_and_access_keys_end_at_once(admin: Member, manager: Member) -> None:
    client = Client()
    client.force_login(manager, backend="django.contrib.auth.backends.ModelBackend")
    value = make_access_key(manager).value
    assert client.get("/admin/").status_code == 200
    assert access_keys.find_usable(value)
    members.edit_member(actor=actor_of(admin), member_id=manager.pk, changed={"is_active": False})
    assert client.get("/admin/").status_code == 302
    assert access_keys.find_usable(value) is None


def test_a_session_does_not_go_on_where_its_member_is_let_in_again(admin: Member, manager: Member) -> None:
    theirs, other = Client(), Client()
    theirs.force_login(manager)
    other.force_login(admin)
    for is_active in (False, True):
        members.edit_member(actor=actor_of(admin), member_id=manager.pk, changed={"is_active": is_active})
    assert theirs.get("/admin/").status_code == 302
    assert other.get("/admin/").status_code == 200


def test_another_password_ends_the_sessions(admin: Member, manager: Member) -> None:
    client = Client()
    client.force_login(manager, backend="django.contrib.auth.backends.ModelBackend")
    members.set_password(actor=actor_of(admin), member_id=manager.pk, password="another long password")
    assert client.get("/admin/").status_code == 302
    assert "member.password_changed" in actions()


def test_signing_in_and_out_and_failing_to_is_recorded(admin: Member) -> None:
    client = Client()
    client.post("/admin/login/", {"username": admin.username, "password": "wrong"})
    client.post("/admin/login/", {"username": "my-secret-typed-in-the-wrong-field", "password": "x"})
    client.post("/admin/login/", {"username": admin.username, "password": PASSWORD})
    client.post("/admin/logout/")
    said = [
        (entry.action, entry.actor_kind, entry.actor_label)
        for entry in AuditEntry.objects.filter(object_type="session").order_by("id")
    ]
    assert said == [
        ("session.sign_in_failed", "anonymous", admin.username),
        ("session.sign_in_failed", "anonymous", "unknown username"),
        ("session.signed_in", "member", admin.username),
        ("session.signed_out", "member", admin.username),
    ]
    assert AuditEntry.objects.filter(action="session.signed_in", ip="127.0.0.1").exists()


def test_what_was_typed_as_a_username_is_kept_nowhere(db: None) -> None:
    typed = "a password in the wrong field"
    Client().post("/admin/login/", {"username": typed, "password": "x"})
    attempt = AccessAttempt.objects.values().get()
    assert typed not in str(attempt)
    assert attempt["failures_since_start"] == 1
    assert typed not in str(list(AuditEntry.objects.values()))


def test_ten_failures_close_the_door_for_that_name_and_address(admin: Member) -> None:
    client = Client()
    for _ in range(10):
        client.post("/admin/login/", {"username": admin.username, "password": "wrong"})
    assert client.post("/admin/login/", {"username": admin.username, "password": PASSWORD}).status_code == 429
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert elsewhere.post("/admin/login/", {"username": admin.username, "password": PASSWORD}).status_code == 302


def test_an_access_key_is_usable_until_it_expires_or_is_revoked(manager: Member) -> None:
    issued = make_access_key(manager, expires_at=clock.now() + timedelta(hours=1))
    assert access_keys.find_usable(issued.value) == issued.access_key
    assert issued.value not in repr(issued)
    with time_machine.travel(clock.now() + timedelta(hours=1, seconds=1)):
        assert access_keys.find_usable(issued.value) is None
    access_keys.revoke_access_key(actor=actor_of(manager), access_key_id=issued.access_key.id)
    access_keys.revoke_access_key(actor=actor_of(manager), access_key_id=issued.access_key.id)
    assert access_keys.find_usable(issued.value) is None
    assert actions().count("access_key.revoked") == 1


@pytest.mark.parametrize("value", ["", "kt_ak_", tokens.generate(TokenKind.ACCESS_KEY), "\x00", "kt_ak_" + "é" * 32])
def test_an_unknown_access_key_is_nobodys(value: str, db: None) -> None:
    assert access_keys.find_usable(value) is None


def test_the_last_use_of_an_access_key_is_written_once_a_minute(manager: Member) -> None:
    value = make_access_key(manager).value
    with time_machine.travel(clock.now(), tick=False) as traveller:
        access_keys.find_usable(value)
        first = AccessKey.objects.get().last_used_at
        traveller.shift(30)
        access_keys.find_usable(value)
        assert AccessKey.objects.get().last_used_at == first
        traveller.shift(31)
        access_keys.find_usable(value)
        assert AccessKey.objects.get().last_used_at == clock.now()


def test_create_member_reads_the_password_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    call_command("create_member", "new.admin", "--role", "admin", stderr=io.StringIO())
    assert Member.objects.get().check_password(PASSWORD)
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(CommandError, match=r"password: .*12"):
        call_command("create_member", "other", "--role", "admin")


def test_create_access_key_prints_the_value_alone(manager: Member) -> None:
    out = io.StringIO()
    call_command("create_access_key", manager.username, "--name", "ci", "--days", "3", stdout=out)
    found = access_keys.find_usable(out.getvalue().strip())
    assert found
    assert found.expires_at
    assert timedelta(days=2) < found.expires_at - clock.now() <= timedelta(days=3)
    for arguments in (["nobody", "--name", "ci"], [manager.username, "--name", "ci", "--days", "0"]):
        with pytest.raises(CommandError):
            call_command("create_access_key", *arguments)
    with pytest.raises(CommandError):
        call_command("create_access_key", manager.username, "--name", "")


def test_create_gateway_prints_the_token_alone(db: None) -> None:
    out = io.StringIO()
    call_command("create_gateway", "edge", "--usage-source", "report", stdout=out)
    assert bytes(GatewayToken.objects.get().digest) == tokens.digest(out.getvalue().strip())
    with pytest.raises(CommandError, match="exists"):
        call_command("create_gateway", "edge")


def test_the_system_needs_nobodys_leave() -> None:
    assert TESTS.may("access.add_member")
    assert not type(TESTS).anonymous(label="x", ip=None).may("keys.view_gatewaykey")

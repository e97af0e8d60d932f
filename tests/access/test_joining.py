"""Joining by an invitation link: once, in time, with a password of one's own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.test import Client

from access.invitations import Invited, invite_member, replace_invitation
from access.members import edit_member
from access.models import Invitation, Member
from access.refusals import Conflict, Forbidden
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from keys.models import ConsumerGroup
from tests.factories import TESTS, actor_of, make_group, make_member
from tests.fixtures import BrowserOf
from tests.pages import confirmed, text_of

pytestmark = pytest.mark.django_db
NEW = "a password of their own choice"


@pytest.fixture(autouse=True)
def _nobody_has_guessed() -> None:
    cache.clear()


def invite(role: str = "auditor") -> Invited:
    return invite_member(actor=TESTS, username="nora", role=role, name="Nora New", email="nora.new.nora@example.com")


def join(client: Client, secret: str, password: str = NEW, again: str | None = None) -> Any:
    sent = {"secret": secret, "new_password": password, "same_password": password if again is None else again}
    return client.post("/join/", sent)


def test_the_invited_choose_a_password_and_are_signed_in(client: Client) -> None:
    invited = invite()
    page = text_of(client.post("/join/", {"secret": invited.secret}))
    assert "You were invited to this console as Auditor . Your username is nora" in page
    assert "at least 12 characters" in page
    response = join(client, invited.secret)
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/")
    assert "Welcome, Nora New." in text_of(client.get("/admin/"))
    member = Member.objects.get(username="nora")
    assert member.is_active
    assert member.check_password(NEW)
    entry = AuditEntry.objects.get(action=AuditAction.MEMBER_JOINED)
    assert (entry.actor_label, entry.credential, entry.ip) == ("nora", "invitation link", "127.0.0.1")


@pytest.mark.parametrize(
    ("password", "again", "said"),
    [
        ("short", None, "This password is too short."),
        (NEW, "something else", "The two passwords differ."),
        ("", "", "This field is required."),
        ("nora.new.nora@example", None, "too similar"),
    ],
)
def test_what_is_wrong_with_a_password_is_said_and_the_link_stays_good(
    client: Client, password: str, again: str | None, said: str
) -> None:
    invited = invite()
    assert said in text_of(join(client, invited.secret, password, again))
    assert join(client, invited.secret).status_code == 302


def test_a_link_works_once(client: Client) -> None:
    invited = invite()
    join(client, invited.secret)
    response = join(Client(), invited.secret, "another password of somebody")
    assert response.status_code == 410
    assert "This link was used" in text_of(response)
    assert Member.objects.get(username="nora").check_password(NEW)


def test_a_link_ends_after_seven_days_and_says_what_to_do(client: Client) -> None:
    invited = invite()
    with time_machine.travel(clock.now() + timedelta(days=7, seconds=1)):
        response = join(client, invited.secret)
    assert "An invitation link is valid for 7 days. Ask an Admin for a new one." in text_of(response)
    assert not Member.objects.get(username="nora").is_active


@pytest.mark.parametrize("secret", ["x", "ü" * 43, "a" * 200])
def test_an_unknown_link_lets_nobody_in(client: Client, secret: str) -> None:
    response = client.post("/join/", {"secret": secret})
    assert response.status_code == 410
    assert "This link is not known" in text_of(response)


@pytest.mark.parametrize("secret", ["", "a" * 201, "nul\x00"])
def test_what_cannot_be_a_link_is_said_at_the_field(client: Client, secret: str) -> None:
    assert client.post("/join/", {"secret": secret}).status_code == 200


def test_guessing_is_slowed_down(client: Client) -> None:
    answers = [client.post("/join/", {"secret": f"guess {number}"}).status_code for number in range(31)]
    assert answers == [410] * 30 + [429]


def test_the_page_needs_its_csrf_token_and_is_kept_nowhere() -> None:
    invited = invite()
    client = Client(enforce_csrf_checks=True)
    assert join(client, invited.secret).status_code == 403
    response = client.get("/join/")
    assert "no-store" in response.headers["Cache-Control"]
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert "Sign in" not in text_of(response)


def test_the_secret_of_a_link_is_kept_nowhere() -> None:
    invited = invite()
    replace_invitation(actor=TESTS, member_id=invited.member.pk)
    told = str([*Invitation.objects.values(), *Member.objects.values(), *AuditEntry.objects.values()])
    assert invited.secret not in told
    assert invited.secret not in repr(invited)


def test_a_member_invited_cannot_sign_in_before_they_joined(client: Client) -> None:
    invite()
    client.post("/admin/login/", {"username": "nora", "password": ""})
    assert client.get("/admin/").status_code == 302


def test_joining_in_anothers_browser_ends_their_session_there(browser: BrowserOf, admin: Member) -> None:
    invited, client = invite(), browser(admin)
    assert f"joining signs {admin} out of this browser" in text_of(client.post("/join/", {"secret": invited.secret}))
    join(client, invited.secret)
    assert client.get("/admin/access/member/").status_code == 403


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_only_admins_invite(role: str) -> None:
    with pytest.raises(Forbidden):
        invite_member(actor=actor_of(make_member(role)), username="nora", role="admin")
    assert not Member.objects.filter(username="nora").exists()


def test_who_has_joined_gets_no_further_link(client: Client) -> None:
    invited = invite()
    join(client, invited.secret)
    with pytest.raises(Conflict) as refusal:
        replace_invitation(actor=TESTS, member_id=invited.member.pk)
    assert refusal.value.code == "already_joined"


def invite_manager(browser: BrowserOf, admin: Member, *groups: ConsumerGroup, role: str = "manager") -> str:
    """Invite nora by the console's form; return what it answers, as text."""
    sent = confirmed(username="nora", name="", email="", role=role, manages=[group.pk for group in groups])
    return text_of(browser(admin).post("/admin/access/member/add/", sent))


def link_of(username: str) -> str:
    """Replace the link of a member by one whose secret is known."""
    member = Member.objects.get(username=username)
    return replace_invitation(actor=TESTS, member_id=member.pk).secret


def test_the_groups_chosen_at_the_invitation_name_the_manager_once_they_have_joined(
    client: Client, browser: BrowserOf, admin: Member
) -> None:
    payments, search = make_group("payments"), make_group("search")
    page = invite_manager(browser, admin, payments)
    assert "nora is invited This is the only time that this link is shown." in " ".join(
        page.replace("visibility", "").split()
    )
    assert ".env" not in page
    nora = Member.objects.get(username="nora")
    # Until then the group is every Manager's, as it was.
    assert not payments.managers.exists()
    assert "payments, once they have joined" in text_of(browser(admin).get("/admin/access/member/"))
    assert "payments once they have joined" in text_of(browser(admin).get(f"/admin/access/member/{nora.pk}/change/"))
    # Another link is for the same groups.
    join(client, link_of("nora"))
    assert (list(payments.managers.all()), list(search.managers.all())) == ([nora], [])
    entry = AuditEntry.objects.get(action=AuditAction.GROUP_EDITED)
    assert (entry.object_label, entry.actor_label, entry.credential) == ("payments", "nora", "invitation link")
    assert (entry.before, entry.after) == ({"managers": []}, {"managers": ["nora"]})
    invited = AuditEntry.objects.filter(action=AuditAction.MEMBER_INVITED).earliest("id")
    assert invited.detail["groups_to_manage"] == ["payments"]


def test_who_is_no_manager_when_they_join_is_named_by_no_group(
    client: Client, browser: BrowserOf, admin: Member
) -> None:
    payments = make_group("payments")
    invite_manager(browser, admin, payments)
    secret = link_of("nora")
    edit_member(actor=TESTS, member_id=Member.objects.get(username="nora").pk, changed={"role": "auditor"})
    join(client, secret)
    assert not payments.managers.exists()


def test_a_group_chosen_before_another_role_is_forgotten(browser: BrowserOf, admin: Member) -> None:
    assert "nora is invited" in invite_manager(browser, admin, make_group("payments"), role="auditor")
    assert not Invitation.objects.get().groups.exists()


def test_nobody_joins_where_a_group_cannot_be_written(
    client: Client, browser: BrowserOf, admin: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments = make_group("payments")
    invite_manager(browser, admin, payments)
    secret = link_of("nora")

    def cannot_record(*_: object) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr("keys.groups.record", cannot_record)
    with pytest.raises(DatabaseError):
        join(client, secret)
    assert not Member.objects.get(username="nora").is_active
    assert not payments.managers.exists()


def test_only_a_manager_is_named_by_groups() -> None:
    with pytest.raises(ValidationError, match="Only Managers are named by groups"):
        invite_member(actor=TESTS, username="nora", role="auditor", groups=[make_group()])

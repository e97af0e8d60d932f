"""Members in the console, and one's own password."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import authenticate
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from access.access_keys import find_usable
from access.models import Member
from audit.actions import AuditAction
from audit.models import AuditEntry
from keys import lifecycle
from tests.factories import PASSWORD, TESTS, make_access_key, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import SENT, column, main_of, save, secret_of, text_of

MEMBERS = "/admin/access/member/"
NEW = "another long password of nobody"


def page_of(member: Member) -> str:
    return f"{MEMBERS}{member.pk}/change/"


def new_member(**given: Any) -> dict[str, Any]:
    return {
        "username": "nora",
        "name": "Nora New",
        "email": "nora@example.com",
        "role": "auditor",
        "form_token": uuid4(),
        **given,
    }


def particulars(member: Member, **given: Any) -> dict[str, Any]:
    """Return what the form of a member sends."""
    return {"name": member.name, "email": member.email, **given}


def opened(client: Client, link: str, **given: str) -> Any:
    """Return what the page of an invitation answers when its script has sent what stands after "#"."""
    return client.post("/join/", {"secret": link.partition("#")[2], **given})


def signs_in(username: str, password: str) -> bool:
    request = RequestFactory().post("/admin/login/")
    return authenticate(request, username=username, password=password) is not None


def actions_about(member: Member) -> list[str]:
    entries = AuditEntry.objects.filter(object_type="member", object_id=str(member.pk)).order_by("id")
    return list(entries.values_list("action", flat=True))


def test_the_list_says_who_is_who(browser: BrowserOf, admin: Member, manager: Member) -> None:
    make_access_key(manager)
    make_access_key(manager)
    response = browser(admin).get(MEMBERS)
    assert column(response, "username") == ["ada.admin", "max.manager"]
    assert column(response, "role_label") == ["Admin", "Manager"]
    assert column(response, "access_key_count") == ["0", "2"]


@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, admin: Member, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    for _ in range(count):
        make_access_key(make_member("manager"))
    client = browser(admin)
    # session, member, count, rows, groups, open invitations, accounts at the provider
    with django_assert_num_queries(7):
        client.get(MEMBERS)


def test_who_takes_a_member_out_is_told_what_they_leave_behind(browser: BrowserOf, admin: Member) -> None:
    member = make_member("manager")
    dialog = f"{MEMBERS}{member.pk}/take_out/"
    client = browser(admin)
    assert "answer for" not in text_of(client.get(dialog))
    for _ in range(2):
        make_key(owner=member)
    lifecycle.revoke(actor=TESTS, key_id=make_key(owner=member).key.pk)
    assert "2 gateway keys that they answer for have nobody then" in text_of(client.get(dialog))


def test_an_admin_invites_a_member_by_a_link_that_is_shown_once(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    given = new_member()
    response = client.post(f"{MEMBERS}add/", given)
    link = secret_of(response)
    assert link.startswith("http://testserver/join/#")
    assert "no-store" in response.headers["Cache-Control"]
    member = Member.objects.get(username="nora")
    assert (member.role, member.name, member.email) == ("auditor", "Nora New", "nora@example.com")
    assert not member.is_active
    assert actions_about(member) == [AuditAction.MEMBER_INVITED]
    again = client.post(f"{MEMBERS}add/", given)
    assert again.status_code == 409
    assert link not in again.content.decode()
    assert column(client.get(MEMBERS), "state") == ["Active", "Invited"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"username": "nora new"}, "Enter a valid username."),
        ({"username": "ada.admin"}, "Member with this Username already exists."),
        ({"role": "root"}, "Select a valid choice."),
    ],
)
def test_what_is_wrong_with_a_new_member_is_said_at_the_field(
    browser: BrowserOf, admin: Member, given: dict[str, str], said: str
) -> None:
    response = browser(admin).post(f"{MEMBERS}add/", new_member(**given))
    assert said in main_of(response)
    assert Member.objects.count() == 1


def test_an_edit_changes_particulars_and_not_the_role(browser: BrowserOf, admin: Member, manager: Member) -> None:
    save(browser(admin), page_of(manager), particulars(manager, role="auditor", name="Max Muster"))
    manager.refresh_from_db()
    assert (manager.role, manager.name) == ("manager", "Max Muster")
    assert actions_about(manager)[1:] == [AuditAction.MEMBER_EDITED]


def test_another_role_is_given_in_a_dialog_that_says_what_it_means(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    client = browser(admin)
    make_group(managers=[manager])
    dialog = text_of(client.get(f"{MEMBERS}{manager.pk}/change_role/"))
    assert "Auditor: sees everything, exports and verifies, and changes nothing." in dialog
    assert "1 consumer group names them among the managers." in dialog
    client.post(f"{MEMBERS}{manager.pk}/change_role/", {**SENT, "role": "auditor"})
    manager.refresh_from_db()
    assert manager.role == "auditor"
    assert actions_about(manager)[-1] == AuditAction.MEMBER_ROLE_CHANGED


def test_the_username_stays(browser: BrowserOf, admin: Member, manager: Member) -> None:
    save(browser(admin), page_of(manager), particulars(manager, username="somebody.else"))
    manager.refresh_from_db()
    assert manager.username == "max.manager"


def test_the_dialog_of_taking_out_names_what_it_hits(browser: BrowserOf, admin: Member, manager: Member) -> None:
    make_access_key(manager, name="deploys")
    dialog = text_of(browser(admin).get(f"{MEMBERS}{manager.pk}/take_out/"))
    assert "every session of theirs ends, and 1 access key is revoked for good: deploys." in dialog


def test_a_member_taken_out_is_signed_out_and_their_access_keys_are_revoked_at_once(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    theirs, client, issued = browser(manager), browser(admin), make_access_key(manager)
    assert theirs.get("/admin/").status_code == 200
    client.post(f"{MEMBERS}{manager.pk}/take_out/", SENT)
    assert theirs.get("/admin/").status_code == 302
    assert find_usable(issued.value) is None
    page = text_of(client.get(MEMBERS))
    assert f"{manager} is out: 1 session ended, 1 access key revoked." in page
    assert column(client.get(MEMBERS, {"state": "out"}), "state") == ["Taken out"]
    revoked = AuditEntry.objects.get(action=AuditAction.ACCESS_KEY_REVOKED)
    assert (revoked.object_id, revoked.actor_label) == (str(issued.access_key.pk), admin.username)


def test_let_in_again_they_sign_in_and_their_access_keys_stay_revoked(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    client, issued = browser(admin), make_access_key(manager)
    client.post(f"{MEMBERS}{manager.pk}/take_out/", SENT)
    client.post(f"{MEMBERS}{manager.pk}/let_in/", SENT)
    assert signs_in("max.manager", PASSWORD)
    assert find_usable(issued.value) is None


def test_the_last_admin_stays_and_the_dialog_says_why(browser: BrowserOf, admin: Member) -> None:
    response = browser(admin).post(f"{MEMBERS}{admin.pk}/change_role/", {**SENT, "role": "auditor"})
    assert "This is the last active Admin." in text_of(response)
    admin.refresh_from_db()
    assert admin.role == "admin"
    assert actions_about(admin)[-1] == AuditAction.MEMBER_EDIT_REFUSED


def test_another_link_replaces_the_first_and_a_withdrawn_one_leads_nowhere(browser: BrowserOf, admin: Member) -> None:
    client, stranger = browser(admin), Client()
    first = secret_of(client.post(f"{MEMBERS}add/", new_member()))
    member = Member.objects.get(username="nora")
    second = secret_of(client.post(f"{MEMBERS}{member.pk}/new_link/", SENT))
    assert "This link is no longer valid" in text_of(opened(stranger, first))
    assert "Your username is nora" in text_of(opened(stranger, second))
    client.post(f"{MEMBERS}{member.pk}/withdraw/", SENT)
    assert "This link is no longer valid" in text_of(opened(stranger, second))
    assert column(client.get(MEMBERS), "state")[1] == "Invitation withdrawn"
    assert actions_about(member)[-1] == AuditAction.MEMBER_INVITATION_WITHDRAWN


@pytest.mark.parametrize("action", ["let_in", "set_password"])
def test_who_has_not_joined_cannot_be_let_in_by_another_way(browser: BrowserOf, admin: Member, action: str) -> None:
    client = browser(admin)
    client.post(f"{MEMBERS}add/", new_member())
    member = Member.objects.get(username="nora")
    sent = {**SENT, "new_password": NEW, "same_password": NEW}
    assert "They have not joined yet." in text_of(client.post(f"{MEMBERS}{member.pk}/{action}/", sent))
    member.refresh_from_db()
    assert (member.is_active, member.has_usable_password()) == (False, False)


def test_a_members_page_lists_their_access_keys_and_leads_to_their_entries(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    access_key = make_access_key(manager, name="deploys").access_key
    client = browser(admin)
    response = client.get(page_of(manager))
    assert "deploys" in main_of(response)
    page = response.content.decode()
    assert f"/admin/access/accesskey/{access_key.pk}/revoke/" in page
    about = re.search(r'href="(/admin/audit/auditentry/[^"]*object_id[^"]*)"', page)
    assert about
    assert column(client.get(unescape(about[1])), "what") == ["Member added"]


def test_an_admin_sets_another_members_password(browser: BrowserOf, admin: Member, manager: Member) -> None:
    theirs = browser(manager)
    response = browser(admin).post(
        f"{MEMBERS}{manager.pk}/set_password/", {**SENT, "new_password": NEW, "same_password": NEW}
    )
    assert response.headers["HX-Refresh"] == "true"
    assert signs_in("max.manager", NEW)
    assert theirs.get("/admin/").status_code == 302
    assert actions_about(manager)[-1] == AuditAction.MEMBER_PASSWORD_CHANGED


def test_a_weak_password_is_refused_in_the_dialog(browser: BrowserOf, admin: Member, manager: Member) -> None:
    response = browser(admin).post(
        f"{MEMBERS}{manager.pk}/set_password/", {**SENT, "new_password": "short", "same_password": "short"}
    )
    assert "too short" in text_of(response)
    assert signs_in("max.manager", PASSWORD)


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_only_admins_see_members(browser: BrowserOf, admin: Member, role: str) -> None:
    client = browser(make_member(role))
    assert client.get(MEMBERS).status_code == 403
    assert client.get(page_of(admin)).status_code in {403, 404}
    assert "Members" not in text_of(client.get("/admin/"))


def test_a_member_page_names_the_groups_that_name_them(browser: BrowserOf, admin: Member, manager: Member) -> None:
    make_group("payments", name="Payments", managers=[manager])
    assert "Payments" in main_of(browser(admin).get(page_of(manager)))


# --- one's own password -----------------------------------------------------------------------------------------------


def own_password(client: Client, **given: str) -> Any:
    sent = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW, **given}
    return client.post("/admin/password_change/", sent)


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_every_role_changes_its_own_password_and_the_log_knows(browser: BrowserOf, role: str) -> None:
    member = make_member(role)
    client, elsewhere = browser(member), browser(member)
    assert own_password(client).status_code == 302
    assert signs_in(member.username, NEW)
    assert client.get("/admin/").status_code == 200
    assert elsewhere.get("/admin/").status_code == 302
    entry = AuditEntry.objects.get(action=AuditAction.MEMBER_PASSWORD_CHANGED)
    assert (entry.actor_id, entry.object_id, entry.credential) == (str(member.pk), str(member.pk), "session")
    assert NEW not in str([entry.before, entry.after, entry.detail])


def test_the_old_password_is_needed(browser: BrowserOf, auditor: Member) -> None:
    response = own_password(browser(auditor), old_password="wrong")
    assert "old password was entered incorrectly" in text_of(response)
    assert signs_in(auditor.username, PASSWORD)

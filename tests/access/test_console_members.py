"""Members in the console, and one's own password."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit.actions import AuditAction
from audit.models import AuditEntry
from tests.factories import PASSWORD, make_access_key, make_group, make_member
from tests.fixtures import BrowserOf
from tests.pages import SENT, column, main_of, text_of

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
        "new_password": NEW,
        "same_password": NEW,
        **given,
    }


def particulars(member: Member, **given: Any) -> dict[str, Any]:
    """Return what the form of a member sends."""
    sent = {"name": member.name, "email": member.email, "role": member.role, "is_active": "on", **given}
    return {name: value for name, value in sent.items() if value is not None}


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
    with django_assert_num_queries(4):  # session, member, count, rows
        client.get(MEMBERS)


def test_an_admin_adds_a_member_who_can_sign_in(browser: BrowserOf, admin: Member) -> None:
    response = browser(admin).post(f"{MEMBERS}add/", new_member())
    assert response.status_code == 302
    member = Member.objects.get(username="nora")
    assert (member.role, member.name, member.email) == ("auditor", "Nora New", "nora@example.com")
    assert signs_in("nora", NEW)
    assert actions_about(member) == [AuditAction.MEMBER_CREATED]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"same_password": "something else here"}, "The two passwords differ."),
        ({"new_password": "short", "same_password": "short"}, "This password is too short."),
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


def test_an_edit_changes_role_and_particulars_with_an_entry_for_each(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    browser(admin).post(page_of(manager), particulars(manager, role="auditor", name="Max Muster"))
    manager.refresh_from_db()
    assert (manager.role, manager.name) == ("auditor", "Max Muster")
    assert actions_about(manager)[1:] == [AuditAction.MEMBER_ROLE_CHANGED, AuditAction.MEMBER_EDITED]


def test_the_username_stays(browser: BrowserOf, admin: Member, manager: Member) -> None:
    browser(admin).post(page_of(manager), particulars(manager, username="somebody.else"))
    manager.refresh_from_db()
    assert manager.username == "max.manager"


def test_a_member_taken_out_is_signed_out_at_once(browser: BrowserOf, admin: Member, manager: Member) -> None:
    theirs = browser(manager)
    assert theirs.get("/admin/").status_code == 200
    browser(admin).post(page_of(manager), particulars(manager, is_active=None))
    assert theirs.get("/admin/").status_code == 302


def test_the_last_admin_stays_and_the_form_says_why(browser: BrowserOf, admin: Member) -> None:
    response = browser(admin).post(page_of(admin), particulars(admin, role="auditor"))
    assert "This is the last active Admin." in main_of(response)
    admin.refresh_from_db()
    assert admin.role == "admin"
    assert actions_about(admin)[-1] == AuditAction.MEMBER_EDIT_REFUSED


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

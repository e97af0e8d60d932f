"""Running the team and showing the evidence, as a person in a browser does both."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from access.models import Member
from tests.browser.conftest import Visit
from tests.factories import make_access_key, make_group, make_key

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

MEMBERS = "/admin/access/member/"
LOG = "/admin/audit/auditentry/"


def test_a_member_is_invited_joins_by_the_link_and_is_taken_out(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    page.goto(MEMBERS)
    page.get_by_role("link", name="Invite Member").first.click()
    page.fill("#id_username", "nora")
    page.get_by_label("Auditor").check()
    page.get_by_role("button", name="Invite and show the link").click()
    link = page.locator("#secret-value").inner_text()

    assert page.context.browser is not None
    theirs = page.context.browser.new_context().new_page()
    theirs.goto(link)
    expect(theirs.get_by_role("heading", name="Welcome, nora")).to_be_visible()
    assert "#" not in theirs.url
    theirs.fill("input[name=new_password]", "short")
    theirs.fill("input[name=same_password]", "short")
    theirs.get_by_role("button", name="Join and sign in").click()
    expect(theirs.get_by_text("This password is too short.")).to_be_visible()
    theirs.fill("input[name=new_password]", "a password of their own choice")
    theirs.fill("input[name=same_password]", "a password of their own choice")
    theirs.get_by_role("button", name="Join and sign in").click()
    expect(theirs.get_by_text("Welcome, nora. You are signed in as nora.")).to_be_visible()

    nora = Member.objects.get(username="nora")
    make_access_key(nora, name="reports")
    page.goto(f"{MEMBERS}{nora.pk}/change/")
    page.get_by_role("button", name="Take out").click()
    expect(page.locator("#dialog")).to_contain_text("1 access key is revoked for good: reports.")
    page.locator("#dialog button[type=submit]").click()
    expect(page.get_by_text("nora is out: 1 session ended, 1 access key revoked.")).to_be_visible()
    theirs.goto(theirs.url)
    expect(theirs.locator("#login-form")).to_be_visible()


def test_the_groups_of_a_new_manager_are_chosen_and_name_them_once_they_have_joined(
    visit: Visit, admin: Member
) -> None:
    payments = make_group("payments", name="Payments")
    page = visit(admin)
    page.goto(f"{MEMBERS}add/")
    page.fill("#id_username", "nora")
    page.get_by_label("Auditor").check()
    expect(page.get_by_text("Groups to manage")).to_be_hidden()
    page.get_by_label("Manager").check()
    page.locator(".select2-selection").click()
    page.get_by_role("option", name="Payments").click()
    page.get_by_role("button", name="Invite and show the link").click()
    link = page.locator("#secret-value").inner_text()

    assert page.context.browser is not None
    theirs = page.context.browser.new_context().new_page()
    theirs.goto(link)
    theirs.fill("input[name=new_password]", "a password of their own choice")
    theirs.fill("input[name=same_password]", "a password of their own choice")
    theirs.get_by_role("button", name="Join and sign in").click()
    expect(theirs.get_by_text("You are signed in as nora.")).to_be_visible()
    assert [member.username for member in payments.managers.all()] == ["nora"]


def test_an_auditor_goes_from_a_key_to_its_entries_exports_and_verifies(visit: Visit, auditor: Member) -> None:
    key = make_key("billing").key
    make_key("other")
    page = visit(auditor)
    page.goto(f"/admin/keys/gatewaykey/{key.pk}/change/")
    page.get_by_role("link", name="All entries of this key").click()
    expect(page.locator("#result_list .field-object_text")).to_have_text(["Gateway key billing"])
    with page.expect_download() as download:
        page.get_by_role("link", name="Export these (CSV)").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 2
    assert str(key.pk) in lines[1]
    page.goto(f"{LOG}verify/")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("The audit log is intact.")).to_be_visible()


def test_a_manager_neither_invites_nor_verifies(visit: Visit, manager: Member) -> None:
    page = visit(manager)
    expect(page.get_by_role("link", name="Members")).to_have_count(0)
    page.goto(LOG)
    expect(page.get_by_role("link", name="Verify now")).to_have_count(0)

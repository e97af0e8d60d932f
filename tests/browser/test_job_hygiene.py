"""Job: what must I clean up? As those who may, and as one who only looks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from access.models import Member
from audit import clock
from keys.models import GatewayKey
from tests.browser.conftest import Visit
from tests.factories import make_group, make_key

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


def test_a_manager_gives_their_keys_an_expiry_by_keyboard(visit: Visit, manager: Member) -> None:
    group = make_group("payments", managers=[manager], max_lifetime_days=30, expiry_required=False)
    free = make_group("search", managers=[manager])
    make_key("for-ever", consumer_group=free, expires_at=None)
    make_key("everywhere", expires_at=None, owner=manager)
    strict = make_key("strict", consumer_group=group, expires_at=clock.now() + timedelta(days=5)).key
    page = visit(manager)
    page.goto("/admin/hygiene/")
    section = page.get_by_role("region", name="Without expiry")
    section.get_by_role("link", name="Set an expiry").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Set the expiry of 2 keys")).to_be_visible()
    page.get_by_label("Expires in (days)").fill("10")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Set the expiry of 2 keys")
    expect(button).to_have_attribute("data-working", "Working on 2 keys …")
    assert GatewayKey.objects.filter(expires_at=None).count() == 2
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("2 keys done")
    assert not GatewayKey.objects.filter(expires_at=None).exists()
    strict.refresh_from_db()
    assert strict.expires_at is not None
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_role("region", name="Without expiry")).to_have_count(0)


def test_selected_keys_are_revoked_after_a_preview_and_the_list_keeps_its_filters(visit: Visit, admin: Member) -> None:
    make_key("one")
    make_key("two")
    page = visit(admin)
    page.goto("/admin/keys/gatewaykey/?status=active")
    page.locator("input.action-select").first.check()
    page.locator("select[name=action]").select_option("revoke_selected")
    page.get_by_role("button", name="Run").click()
    page.get_by_label("Reason").fill("No longer needed")
    page.get_by_role("button", name="Revoke 1 key for good").click()
    expect(page.get_by_role("status")).to_contain_text("1 key done")
    page.get_by_role("link", name="Back").click()
    page.wait_for_url("**/gatewaykey/?status=active")
    assert GatewayKey.objects.filter(revoke_reason="No longer needed").count() == 1


def test_an_auditor_looks_and_changes_nothing(visit: Visit, auditor: Member) -> None:
    make_key("for-ever", expires_at=None)
    page = visit(auditor)
    page.goto("/admin/hygiene/")
    expect(page.get_by_text("Your role looks and does not change")).to_be_visible()
    expect(page.get_by_role("link", name="Set an expiry")).to_have_count(0)
    expect(page.get_by_role("region", name="Without expiry").get_by_role("link", name="for-ever")).to_be_visible()

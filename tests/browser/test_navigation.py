"""The way around the console: the navigation, on the widths that people have."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from access.models import Member
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

KEYS = "/admin/keys/gatewaykey/"


def test_every_entry_of_the_navigation_is_clicked_on_a_small_laptop(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/admin/")
    entries = page.locator("#nav-sidebar-apps a")
    addresses = [entry.get_attribute("href") for entry in entries.all()]
    assert "/admin/find-a-key/" in addresses
    for number, address in enumerate(addresses):
        entries.nth(number).click()
        page.wait_for_url(f"**{address}")


def test_what_was_closed_stays_closed_and_a_narrow_window_begins_without_navigation(
    visit: Visit, admin: Member
) -> None:
    page = visit(admin)
    link = page.locator("#nav-sidebar").get_by_role("link", name="Find a Key")
    page.set_viewport_size({"width": 1280, "height": 720})
    expect(link).to_be_visible()
    page.keyboard.press("[")
    expect(link).to_be_hidden()
    page.goto(KEYS)
    expect(page.locator("h1").first).to_contain_text("Gateway keys")
    expect(link).to_be_hidden()
    page.keyboard.press("[")
    expect(link).to_be_visible()
    page.set_viewport_size({"width": 1279, "height": 720})
    expect(link).to_be_hidden()


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_the_list_of_keys_leads_to_find_a_key(visit: Visit, request: pytest.FixtureRequest, role: str) -> None:
    page = visit(request.getfixturevalue(role))
    page.goto(KEYS)
    page.locator("#content").get_by_role("link", name="Find a Key").click()
    page.wait_for_url("**/admin/find-a-key/")

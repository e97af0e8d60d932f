"""The console without a mouse."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from access.models import Member
from keys.models import GatewayKey
from keys.status import KeyStatus
from tests.browser.conftest import Visit
from tests.factories import make_group, make_key

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

LIST = "/admin/keys/gatewaykey/"


def tab_to(page: Page, what: str, most: int = 80) -> None:
    """Press Tab until what has the focus matches; every stop on the way shows that it has it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        assert page.evaluate(
            """() => {
                const style = getComputedStyle(document.activeElement);
                return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
            }"""
        ), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if page.evaluate("(what) => document.activeElement.matches(what)", what):
            return
    raise AssertionError(f"{most} times Tab did not lead to {what}")


def open_menu(page: Page, key: GatewayKey) -> None:
    tab_to(page, f"[aria-label='Actions: {key.name}']")
    page.keyboard.press("Enter")
    expect(page.locator("[role=menuitem]:focus")).to_have_count(1)


def press_until(page: Page, key: str, entry: str) -> None:
    for _ in range(8):
        if entry in page.locator(":focus").inner_text():
            return
        page.keyboard.press(key)
    raise AssertionError(f"no {entry}")


def test_a_key_is_revoked_from_the_list_by_keyboard_alone(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(f"{LIST}?q=billing")
    open_menu(page, key)
    press_until(page, "ArrowDown", "Revoke")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Revoke: billing-service")).to_be_visible()
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("Leaked")
    tab_to(page, "#dialog button[type=submit]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="billing-service is revoked.")).to_be_visible()
    expect(page.locator("#messages")).to_be_focused()
    assert page.url.endswith("?q=billing")
    key.refresh_from_db()
    assert (key.status, key.revoke_reason) == (KeyStatus.REVOKED, "Leaked")


def test_escape_closes_the_dialog_and_the_menus_button_has_the_focus_again(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    open_menu(page, key)
    page.keyboard.press("Escape")
    button = page.get_by_role("button", name="Actions: billing-service")
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowDown")
    expect(page.locator("[role=menuitem]:focus")).to_have_count(1)
    press_until(page, "ArrowUp", "Disable")
    page.keyboard.press(" ")
    dialog = page.get_by_role("dialog", name="Disable: billing-service")
    # The focus goes into the dialog, and round in it.
    expect(dialog.locator(":focus")).to_have_count(1)
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.getElementById('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_a_dialog_of_a_page_gives_the_focus_back_to_its_button(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(f"{LIST}{key.pk}/change/")
    button = page.get_by_role("button", name="Revoke")
    button.press("Enter")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()


def test_a_secret_is_not_closed_by_escape(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    open_menu(page, key)
    press_until(page, "ArrowDown", "Rotate")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog :focus")).to_have_count(1)
    tab_to(page, "#dialog button[type=submit]")
    page.keyboard.press("Enter")
    expect(page.locator("#secret-value")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#secret-value")).to_be_visible()
    expect(page.locator("#dialog :focus")).to_have_count(1)


def test_the_first_stop_leads_past_the_navigation(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    page.goto(LIST)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_stop_of_the_lists_and_forms_shows_the_focus(visit: Visit, admin: Member, theme: str) -> None:
    make_group("payments", name="Payments")
    make_key("billing-service")
    page = visit(admin)
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.goto(f"{LIST}add/")
    tab_to(page, "button[name=_save]")
    page.goto("/admin/preferences/")
    tab_to(page, "#content button[type=submit]")


def test_the_filters_keep_the_focus_and_give_it_back(visit: Visit, admin: Member) -> None:
    make_key("billing-service")
    page = visit(admin)
    page.goto(LIST)
    page.locator(".filter-open-button").press("Enter")
    filters = page.get_by_role("dialog", name="Filters")
    expect(filters).to_be_visible()
    expect(filters.locator(":focus")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(filters).to_be_hidden()
    expect(page.locator(".filter-open-button")).to_be_focused()


def test_on_a_narrow_screen_the_navigation_is_opened_by_keyboard(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(LIST)
    entry = page.locator("#nav-sidebar").get_by_role("link", name="Audit log")
    expect(entry).to_be_hidden()
    page.get_by_role("button", name="Show or hide the navigation").first.press("Enter")
    expect(entry).to_be_visible()

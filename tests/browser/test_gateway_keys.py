"""Gateway keys as a person in a browser makes, rotates and revokes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from access.models import Member
from access.tokens import TokenKind, digest, is_well_formed
from keys import lifecycle
from keys.models import GatewayKey
from keys.status import KeyStatus
from tests.browser.conftest import Visit
from tests.factories import TESTS, make_group, make_key

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

LIST = "/admin/keys/gatewaykey/"


def pasted(page: Page) -> str:
    """Return what the clipboard holds, as a person would find out."""
    page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), {id: 'paste-here'}))")
    page.evaluate("document.getElementById('paste-here').focus()")
    page.keyboard.press("Control+V")
    text = page.locator("#paste-here").input_value()
    page.evaluate("document.getElementById('paste-here').remove()")
    return text


def choose(page: Page, key: GatewayKey, entry: str) -> None:
    page.get_by_role("button", name=f"Actions: {key.name}").click()
    page.locator("nav.kt-row-menu:visible").get_by_text(entry, exact=True).click()


def test_a_new_key_is_copied_on_plain_http(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    page.goto(LIST)
    page.get_by_role("link", name="Create Gateway Key").first.click()
    page.fill("#id_name", "billing-service")
    page.get_by_role("button", name="Create and show the value").click()
    value = page.locator("#secret-value").inner_text()
    assert is_well_formed(value, TokenKind.GATEWAY_KEY)
    assert page.evaluate("window.isSecureContext") is False
    page.locator(".kt-secret [data-copy]").click()
    expect(page.locator(".kt-secret [data-copy]")).to_have_text("content_copy Copied", use_inner_text=False)
    assert pasted(page) == value
    page.get_by_role("link", name="Done, I have stored it").click()
    expect(page.locator("#key-title")).to_have_text("billing-service")
    assert value not in page.content()


def test_the_groups_policy_narrows_the_choice_of_expiry(visit: Visit, admin: Member) -> None:
    make_group("payments", name="Payments", max_lifetime_days=60, default_lifetime_days=45)
    page = visit(admin)
    page.goto(f"{LIST}add/")
    expect(page.locator("#id_expiry")).to_have_value("90")
    expect(page.locator("#id_expires_on")).to_be_hidden()
    page.select_option("#id_consumer_group", label="Payments")
    expect(page.locator("#id_expiry")).to_have_value("custom")
    expect(page.locator("#id_expires_on")).to_be_visible()
    assert page.locator("#id_expiry option[disabled]").evaluate_all("all => all.map(o => o.value)") == ["90", "never"]
    page.select_option("#id_expiry", "30")
    expect(page.locator("#id_expires_on")).to_be_hidden()


def test_rotate_shows_the_new_value_until_its_own_button_closes_it(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    choose(page, key, "Rotate")
    page.select_option("#dialog select[name=grace]", "custom")
    page.fill("#dialog input[name=custom_minutes]", "")
    page.locator("#dialog button[type=submit]").click()
    expect(page.locator("#dialog")).to_contain_text("Say how many minutes.")
    page.fill("#dialog input[name=custom_minutes]", "15")
    page.locator("#dialog button[type=submit]").click()
    value = page.locator("#secret-value").inner_text()
    page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    expect(page.locator("#secret-value")).to_be_visible()
    page.locator("#secret-dialog .kt-secret [data-copy]").click()
    expect(page.locator("#secret-dialog .kt-secret .kt-copied")).to_be_visible()
    page.get_by_role("link", name="Done, I have stored it").click()
    expect(page.locator("#key-title")).to_have_text("billing-service")
    new, old = key.versions.all()
    assert bytes(new.digest) == digest(value)
    assert old.valid_until is not None
    assert old.valid_until - new.created_at == timedelta(minutes=15)


def test_revoke_asks_for_a_reason_and_tells_in_the_list(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    choose(page, key, "Revoke")
    page.fill("#dialog textarea[name=reason]", "Leaked in a build log")
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_text("billing-service is revoked.")).to_be_visible()
    expect(page.get_by_role("button", name="Actions: billing-service")).to_have_count(0)
    key.refresh_from_db()
    assert (key.status, key.revoke_reason) == (KeyStatus.REVOKED, "Leaked in a build log")


def test_a_dialog_says_what_somebody_else_has_done_meanwhile(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    choose(page, key, "Disable")
    expect(page.locator("#dialog button[type=submit]")).to_be_visible()
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    page.locator("#dialog button[type=submit]").click()
    expect(page.locator("#dialog")).to_contain_text("This key is revoked.")
    # Nothing is offered that could only be refused, here and on the page below.
    expect(page.locator("#dialog button[type=submit]")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Actions: billing-service")).to_have_count(0)


def test_filters_and_dialogs_are_a_keyboards_too(visit: Visit, admin: Member) -> None:
    key = make_key("billing-service").key
    page = visit(admin)
    page.goto(LIST)
    page.locator(".filter-open-button").press("Enter")
    expect(page.get_by_role("button", name="Apply filters")).to_be_visible()
    page.goto(f"{LIST}{key.pk}/change/")
    page.get_by_role("button", name="Revoke").press(" ")
    expect(page.get_by_label("Reason")).to_be_focused()


def test_a_whole_value_typed_into_the_search_goes_nowhere(visit: Visit, admin: Member) -> None:
    issued = make_key("billing-service")
    make_key("other")
    page = visit(admin)
    page.goto(LIST)
    page.fill("#searchbar", issued.value)
    page.keyboard.press("Enter")
    page.wait_for_url("**q=**")
    assert issued.value not in page.url
    expect(page.locator("#result_list th.field-name")).to_have_text(["billing-service"])


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_no_page_is_wider_than_the_screen(role: str, visit: Visit, request: pytest.FixtureRequest) -> None:
    key = make_key("partner-" + "x" * 90, description="y" * 300, allowed_networks=["2001:db8::/32"]).key
    page = visit(request.getfixturevalue(role))
    for address in (LIST, f"{LIST}{key.pk}/change/"):
        for width in (390, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)

"""Job 1: give the new chatbot a key, as the roles that may do it in a browser, and the one that may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Dialog, Page, expect

from access.models import Member
from access.tokens import digest
from keys.models import GatewayKey
from tests.browser.conftest import Visit
from tests.factories import make_group

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

ADD = "/admin/keys/gatewaykey/add/"


def given(page: Page) -> str:
    """Create the key, and return the value on the page that shows it."""
    page.goto(ADD)
    page.fill("#id_name", "chatbot")
    if page.locator("#id_consumer_group option").count() > 1:
        page.select_option("#id_consumer_group", label="Payments")
    page.get_by_role("button", name="Create and show the value").click()
    return page.locator("#secret-value").inner_text()


@pytest.mark.parametrize("role", ["admin", "manager"])
def test_the_value_is_downloaded_as_a_line_of_an_env_file(
    role: str, visit: Visit, request: pytest.FixtureRequest
) -> None:
    member: Member = request.getfixturevalue(role)
    make_group("payments", name="Payments")
    page = visit(member)
    value = given(page)
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda made: asked.append(made.url) if made.url.startswith("http") else None)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as a .env line").click()
    assert download.value.suggested_filename == "keeptrusts.env"
    assert Path(download.value.path()).read_text() == f"KEEPTRUSTS_KEY={value}\n"
    assert asked == []


def test_leaving_warns_until_the_value_is_stored(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    given(page)
    warned: list[str] = []

    def stay(dialog: Dialog) -> None:
        warned.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    # A browser asks only who has done something on the page.
    page.locator(".kt-secret [data-copy]").click()
    with page.expect_event("dialog"):
        page.evaluate("window.setTimeout(() => window.location.assign('/admin/'))")
    expect(page.locator("#secret-value")).to_be_visible()
    assert warned == ["beforeunload"]
    page.get_by_role("link", name="Done, I have stored it").click()
    expect(page.locator("#key-title")).to_have_text("chatbot")
    assert warned == ["beforeunload"]


def test_reload_and_back_neither_show_the_value_again_nor_make_another_key(visit: Visit, admin: Member) -> None:
    page = visit(admin)
    value = given(page)
    page.reload()
    expect(page.locator("#key-title")).to_have_text("chatbot")
    page.go_back()
    assert value not in page.content()
    page.go_forward()
    assert value not in page.content()
    assert GatewayKey.objects.count() == 1


def test_a_form_sent_twice_offers_to_replace_the_value(visit: Visit, admin: Member) -> None:
    # In a tab of its own: the browser notes the 409 in its console, which is no fault of the page.
    page = visit(admin).context.new_page()
    page.goto(ADD)
    page.fill("#id_name", "chatbot")
    # The first answer gets lost on its way.
    form = "new FormData(document.getElementById('gatewaykey_form'))"
    assert page.evaluate(f"fetch('', {{method: 'POST', body: {form}}}).then(answer => answer.status)") == 200
    page.get_by_role("button", name="Create and show the value").click()
    expect(page.get_by_role("heading", name="This was done already")).to_be_visible()
    page.get_by_role("button", name="Replace the value").click()
    value = page.locator("#secret-value").inner_text()
    new, old = GatewayKey.objects.get().versions.all()
    assert bytes(new.digest) == digest(value)
    assert old.valid_until is not None


def test_who_only_reads_is_offered_no_new_key(visit: Visit, auditor: Member) -> None:
    page = visit(auditor)
    page.goto("/admin/keys/gatewaykey/")
    expect(page.get_by_role("link", name="Create Gateway Key")).to_have_count(0)

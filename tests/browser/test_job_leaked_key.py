"""This key leaked; why was I refused: as a person in a browser finds out, and acts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from access.models import Member
from keys import lifecycle
from keys.status import KeyStatus
from tests.browser.conftest import Visit
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.usage.test_console import make_event

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


def ask_for(page: Page, value: str) -> None:
    page.goto("/admin/find-a-key/")
    page.get_by_label("Suspected value, or its hint").fill(value)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("role", ["admin", "manager"])
def test_a_leaked_value_is_found_and_revoked_on_the_spot(
    role: str, visit: Visit, request: pytest.FixtureRequest
) -> None:
    issued = make_key("billing-service", consumer_group=make_group("payments"))
    gateway = make_gateway("edge-eu").gateway
    page = visit(request.getfixturevalue(role))
    ask_for(page, issued.value)
    expect(page.get_by_text("This value is accepted: whoever has it can use it.")).to_be_visible()
    assert issued.value not in page.content()
    assert issued.value not in page.url
    page.get_by_label("Reason").fill("Leaked in a build log")
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_text("Tick this to say that you mean this key.")).to_be_visible()
    expect(page.get_by_label("Reason")).to_have_value("Leaked in a build log")
    page.get_by_label("Revoke billing-service").press(" ")
    page.get_by_role("button", name="Revoke for good").press("Enter")
    expect(page.get_by_text("billing-service is revoked")).to_be_visible()
    issued.key.refresh_from_db()
    assert (issued.key.status, issued.key.revoke_reason) == (KeyStatus.REVOKED, "Leaked in a build log")
    expect(page.get_by_text("None since it was revoked.")).to_be_visible()
    # What arrives from now on shows by itself.
    make_event(gateway, issued, reason="key_revoked", client_ip="198.51.100.7")
    expect(page.get_by_role("rowheader", name="198.51.100.7")).to_be_visible(timeout=15_000)


def test_an_auditor_finds_a_key_but_is_not_offered_to_revoke_it(visit: Visit, auditor: Member) -> None:
    issued = make_key("billing-service")
    page = visit(auditor)
    ask_for(page, issued.value)
    expect(page.get_by_text("You may not revoke this key.")).to_be_visible()
    expect(page.get_by_role("button", name="Revoke for good")).to_have_count(0)


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_who_was_refused_is_told_why(role: str, visit: Visit, request: pytest.FixtureRequest) -> None:
    issued = make_key("billing-service", consumer_group=make_group("payments"), allowed_networks=["10.0.0.0/8"])
    facts = {"reason": "network_not_allowed", "client_ip": "192.0.2.1", "decision_id": "01JDDECISION"}
    make_event(make_gateway("edge-eu").gateway, issued, **facts)
    page = visit(request.getfixturevalue(role))
    page.goto("/admin/why-refused/")
    page.get_by_label("Decision id, key, hint, group or address").fill("01JDDECISION")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="From a network that is not allowed").click()
    expect(page.get_by_role("heading", name="What would have let it pass")).to_be_visible()
    expect(page.get_by_text("Or add 192.0.2.1 to the allowed networks")).to_be_visible()


def test_neither_page_is_wider_than_the_screen(visit: Visit, admin: Member) -> None:
    issued = make_key("partner-" + "x" * 90, allowed_networks=["2001:db8::/32"])
    event = make_event(make_gateway().gateway, issued, reason="key_revoked", client_ip="2001:db8:1:2:3:4:5:6")
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk, reason="y" * 300)
    page = visit(admin)
    key = issued.key.pk
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        addresses = ("find-a-key/", f"find-a-key/{key}/after/", "why-refused/", f"why-refused/{event.pk}/")
        for address in addresses:
            page.goto(f"/admin/{address}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)

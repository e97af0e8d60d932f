"""Two people edit one key at the same time: the slower one is told, looks, and saves over it on purpose."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from access.models import Member
from keys.models import GatewayKey
from tests.browser.conftest import Visit
from tests.factories import make_key, make_member

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


def describe(page: Page, text: str) -> None:
    page.get_by_label("Description").fill(text)
    page.get_by_role("button", name="Save", exact=True).click()


def test_the_slower_editor_sees_what_was_changed_and_saves_over_it_on_purpose(visit: Visit, admin: Member) -> None:
    key = make_key("billing").key
    ada, olga = visit(admin), visit(make_member("admin", username="olga.other"))
    address = f"/admin/keys/gatewaykey/{key.pk}/change/"
    for page in (ada, olga):
        page.goto(address)
    describe(olga, "Billing, moved to the new cluster")
    olga.wait_for_url("**/admin/keys/gatewaykey/")
    describe(ada, "Billing of the shop")
    told = ada.get_by_role("region", name="Changed by somebody else meanwhile")
    told.wait_for()
    assert "olga.other: Key edited" in told.inner_text()
    assert "Billing, moved to the new cluster" in told.inner_text()
    assert ada.get_by_label("Description").input_value() == "Billing of the shop"
    # Enter in a field is "Save", not "save over it".
    ada.get_by_label("Name").first.press("Enter")
    told.wait_for()
    assert GatewayKey.objects.get().description == "Billing, moved to the new cluster"
    told.get_by_label("Save over it").check()
    ada.get_by_role("button", name="Save", exact=True).click()
    ada.wait_for_url("**/admin/keys/gatewaykey/")
    assert GatewayKey.objects.get().description == "Billing of the shop"

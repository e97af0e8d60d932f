"""Job 2: rotate without breaking anyone, as the roles that may do it in a browser, and the one that may not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from playwright.sync_api import Page, expect

from access.members import set_preferences
from access.models import Member
from audit import clock
from audit.moments import stamp
from keys import lifecycle
from keys.models import GatewayKey
from tests.browser.conftest import Visit
from tests.factories import TESTS, actor_of, make_gateway, make_group, make_key
from usage.ingest import ingest

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


def open_page(page: Page, key: GatewayKey) -> None:
    page.goto(f"/admin/keys/gatewaykey/{key.pk}/change/")


def use_old_value(key: GatewayKey, gateway_id: object, address: str) -> None:
    event = {"id": str(uuid4()), "occurred_at": clock.now().isoformat(), "key_id": str(key.pk), "key_version": 1}
    taken = ingest(gateway_id=gateway_id, events=[{**event, "client_ip": address}])  # type: ignore[arg-type]  # an id
    assert taken.accepted == 1


@pytest.mark.parametrize("role", ["admin", "manager"])
def test_the_dialog_says_until_when_for_every_grace(role: str, visit: Visit, request: pytest.FixtureRequest) -> None:
    member: Member = request.getfixturevalue(role)
    key = make_key("chatbot", consumer_group=make_group("payments")).key
    page = visit(member)
    open_page(page, key)
    page.get_by_role("button", name="Rotate", exact=True).click()
    said = page.locator("#dialog [data-says=grace] p:visible")
    for value, hours in (("86400", 24), ("3600", 1)):
        page.select_option("#dialog select[name=grace]", value)
        expect(said).to_have_count(1)
        expect(said).to_contain_text(f"until {stamp(clock.now() + timedelta(hours=hours))[:13]}")
    page.select_option("#dialog select[name=grace]", "0")
    expect(said).to_contain_text("is refused at once")
    page.select_option("#dialog select[name=grace]", "custom")
    page.fill("#dialog input[name=custom_minutes]", "2880")
    expect(said).to_contain_text(re.compile(rf"until {clock.now() + timedelta(days=2):%Y-%m-%d %H}:\d\d UTC, and"))


@pytest.mark.parametrize(
    ("zone", "minutes", "said"),
    [
        # Through the end of summer time, after which the same zone has another name.
        ("Europe/Berlin", 60, "2026-10-24 22:30 CEST"),
        ("Europe/Berlin", 2 * 1_440, "2026-10-26 20:30 CET"),
        ("Asia/Kathmandu", 60, "2026-10-25 02:15 UTC+0545"),
        ("America/New_York", 60, "2026-10-24 16:30 EDT"),
    ],
)
def test_the_minutes_end_in_the_members_own_zone(
    visit: Visit, admin: Member, zone: str, minutes: int, said: str
) -> None:
    set_preferences(actor=actor_of(admin), member_id=admin.pk, changed={"time_zone": zone})
    page = visit(admin)
    now = datetime(2026, 10, 24, 19, 30, 20, tzinfo=UTC)
    page.clock.set_fixed_time(now)
    with time_machine.travel(now):
        key = make_key("chatbot", expires_at=None).key
        open_page(page, key)
        page.get_by_role("button", name="Rotate", exact=True).click()
        page.select_option("#dialog select[name=grace]", "custom")
        page.fill("#dialog input[name=custom_minutes]", str(minutes))
        expect(page.locator("#dialog [data-says=grace] p:visible")).to_contain_text(f"until {said}, and refused")


def test_the_cutover_is_shown_live_until_the_grace_is_ended(visit: Visit, admin: Member) -> None:
    gateway = make_gateway("edge", usage_source="report").gateway
    key = make_key("chatbot").key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    page = visit(admin)
    open_page(page, key)
    cutover = page.locator("#cutover")
    expect(cutover).to_contain_text("The old value was never used.")
    use_old_value(key, gateway.pk, "192.0.2.7")
    expect(cutover).to_contain_text("The old value is still in use", timeout=15_000)
    expect(cutover).to_contain_text("192.0.2.7")
    lifecycle.end_grace(actor=TESTS, key_id=key.pk)
    expect(cutover).to_contain_text("The rotation is over", timeout=15_000)
    expect(page.locator("[hx-trigger='every 5s']")).to_have_count(0)


def test_ending_grace_warns_of_who_still_sends_the_old_value(visit: Visit, admin: Member) -> None:
    gateway = make_gateway("edge", usage_source="report").gateway
    key = make_key("chatbot").key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    use_old_value(key, gateway.pk, "192.0.2.7")
    page = visit(admin)
    open_page(page, key)
    page.get_by_role("button", name="End grace", exact=True).click()
    expect(page.locator("#dialog")).to_contain_text("The old value is still in use")
    expect(page.locator("#dialog")).to_contain_text("192.0.2.7")
    page.get_by_role("button", name="End grace now").click()
    expect(page.get_by_text("The older values of chatbot are refused")).to_be_visible()


def test_grace_is_extended_while_it_runs(visit: Visit, admin: Member) -> None:
    key = make_key("chatbot").key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    page = visit(admin)
    open_page(page, key)
    page.get_by_role("button", name="Extend grace", exact=True).click()
    page.select_option("#dialog select[name=grace]", "172800")
    page.locator("#dialog button[type=submit]").click()
    expect(page.get_by_text("The old value of chatbot stays accepted until")).to_be_visible()
    key.refresh_from_db()
    assert key.grace_until is not None
    assert key.grace_until > clock.now() + timedelta(hours=47)


def test_who_only_reads_sees_the_cutover_and_changes_nothing(visit: Visit, auditor: Member) -> None:
    key = make_key("chatbot").key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    page = visit(auditor)
    open_page(page, key)
    expect(page.locator("#cutover")).to_contain_text("The old value was never used.")
    for name in ("Rotate", "Extend grace", "End grace"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)

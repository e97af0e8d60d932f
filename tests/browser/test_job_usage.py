"""Job 6, "How is it doing?": usage of keys, groups and gateways, in a real browser."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from access.models import Member
from audit import clock
from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.browser.conftest import Visit
from tests.factories import make_gateway, make_group, make_key, make_member
from usage.models import KeyMetrics, UsageBucket

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


def count(gateway: Gateway, issued: IssuedKey, *, hours_ago: int, requests: int, errors: int, model: str = "") -> None:
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)
    UsageBucket.objects.create(
        start=start,
        gateway=gateway,
        version=issued.version,
        consumer_group=issued.key.consumer_group,
        model=model,
        requests=requests,
        status_2xx=requests - errors,
        status_5xx=errors,
        latency_le_250=requests,
        input_tokens=requests * 100,
    )


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_from_the_dashboard_to_the_key_whose_errors_rise(visit: Visit, role: str) -> None:
    gateway, issued = make_gateway("llm").gateway, make_key("chatbot", consumer_group=make_group())
    count(gateway, issued, hours_ago=30, requests=1000, errors=10)
    count(gateway, issued, hours_ago=2, requests=1200, errors=120, model="gpt-small")
    KeyMetrics.objects.create(key=issued.key, requests_24h=1200, reported_24h=1200, errors_24h=120)
    page = visit(make_member(role))
    expect(page.get_by_role("link", name="+20 % against the day before")).to_be_visible()
    rises = page.get_by_role("region", name="Rising error rates").last
    expect(rises).to_contain_text("1.0 %")
    expect(rises).to_contain_text("10.0 %")
    rises.get_by_role("link", name="chatbot").press("Enter")
    expect(page.get_by_role("link", name="7 days", exact=True)).to_have_attribute("aria-current", "true")
    expect(page.locator("#usage")).to_contain_text("130 of 2,200 reported in 7 days")
    page.get_by_role("link", name="24 hours", exact=True).press("Enter")
    expect(page.locator("#usage")).to_contain_text("120 of 1,200 reported in 24 hours")
    page.get_by_text("The same as a table").click()
    expect(page.get_by_role("region", name="Usage as a table")).to_contain_text("1,080")
    expect(page.get_by_role("region", name="Usage by model")).to_contain_text("gpt-small")


def test_a_manager_finds_nothing_of_another_groups_keys(visit: Visit, manager: Member) -> None:
    gateway = make_gateway("llm").gateway
    hidden = make_key("hidden", consumer_group=make_group(managers=[make_member("manager")]))
    count(gateway, hidden, hours_ago=2, requests=1200, errors=120, model="gpt-small")
    KeyMetrics.objects.create(key=hidden.key, requests_24h=1200, reported_24h=1200, errors_24h=120)
    make_key("mine")
    page = visit(manager)
    expect(page.locator("main, #main, body").first).to_contain_text("No key was used in the last 24 hours")
    page.goto(f"/admin/gateways/gateway/{gateway.pk}/change/?window=30d")
    expect(page.locator("#usage")).to_contain_text("This gateway has neither asked nor reported in the last 30 days")
    page.goto("/admin/keys/gatewaykey/")
    expect(page.locator("#result_list")).to_contain_text("mine")
    expect(page.locator("#result_list")).not_to_contain_text("hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_switch_and_the_charts_fit_a_narrow_screen(visit: Visit, auditor: Member, theme: str) -> None:
    gateway, issued = make_gateway("llm").gateway, make_key("chatbot")
    count(gateway, issued, hours_ago=2, requests=1200, errors=120, model="gpt-small")
    page = visit(auditor)
    page.evaluate("theme => localStorage.setItem('adminTheme', JSON.stringify(theme))", theme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/admin/gateways/gateway/{gateway.pk}/change/")
    expect(page.locator("#usage canvas")).to_have_count(2)
    page.wait_for_function("dark => document.documentElement.classList.contains('dark') === dark", arg=theme == "dark")
    page.wait_for_function(
        "colour => Chart.defaults.color === colour", arg={"light": "#475569", "dark": "#cbd5e1"}[theme]
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

"""How keys, groups and gateways are doing, as their pages show it."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.urls import reverse

from access.models import Member
from audit import clock
from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.factories import make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import main_of
from usage.models import UsageBucket


def page_of(thing: Any) -> str:
    return reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=[thing.pk])


def count(gateway: Gateway, issued: IssuedKey, *, hours_ago: int = 1, **sums: Any) -> None:
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)
    UsageBucket.objects.create(
        start=start, gateway=gateway, version=issued.version, consumer_group=issued.key.consumer_group, **sums
    )


def test_all_three_pages_tell_status_latency_models_and_tokens(browser: BrowserOf, auditor: Member) -> None:
    gateway, issued = make_gateway(usage_source="report").gateway, make_key(consumer_group=make_group())
    sums = {"requests": 2000, "status_2xx": 1900, "status_4xx": 100, "latency_le_100": 2000}
    count(gateway, issued, model="gpt-small", input_tokens=12345, output_tokens=6, denials=3, **sums)
    for thing in (issued.key, issued.key.consumer_group, gateway):
        text = main_of(browser(auditor).get(page_of(thing)))
        assert "Requests (24 hours) 2,000 and 3 denied" in text
        assert "100 of 2,000 reported" in text
        assert "Latency, median 75 ms" in text
        assert "12,345 in · 6 out" in text
        assert "4xx Refused by the service 100 5.0 %" in text
        assert "gpt-small 2,000 5.0 % 75 ms" in text


def test_the_switch_changes_the_window_and_keeps_the_rest(browser: BrowserOf, auditor: Member) -> None:
    gateway, issued = make_gateway().gateway, make_key()
    count(gateway, issued, hours_ago=50, requests=7)
    client = browser(auditor)
    page = client.get(f"{page_of(issued.key)}?_changelist_filters=q%3Dbilling&window=24h")
    assert "Nothing was asked of this key in the last 24 hours" in main_of(page)
    links = [unescape(link) for link in re.findall(r'href="(\?[^"]*#usage)"', page.content.decode())]
    assert links[1] == "?_changelist_filters=q%3Dbilling&window=7d#usage"
    assert "Requests (7 days) 7 none denied" in main_of(client.get(page_of(issued.key) + links[1]))


@pytest.mark.parametrize("window", ["", "1h", "%00", "7d&window=30d"])
def test_a_window_that_there_is_not_is_the_last_day(browser: BrowserOf, auditor: Member, window: str) -> None:
    response = browser(auditor).get(f"{page_of(make_gateway().gateway)}?window={window}")
    assert response.status_code == 200
    assert "This gateway has neither asked nor reported in the last" in main_of(response)


def test_a_manager_sees_of_a_gateway_the_usage_of_their_keys(browser: BrowserOf, manager: Member) -> None:
    gateway = make_gateway().gateway
    count(gateway, make_key(), requests=3)
    count(gateway, make_key(consumer_group=make_group(managers=[make_member("manager")])), requests=1000)
    assert "Requests (24 hours) 3 none denied" in main_of(browser(manager).get(page_of(gateway)))


def test_nothing_is_drawn_on_the_form_for_a_new_one(browser: BrowserOf, admin: Member) -> None:
    for route in ("keys_consumergroup", "gateways_gateway", "keys_gatewaykey"):
        response = browser(admin).get(reverse(f"admin:{route}_add"))
        assert response.status_code == 200
        assert 'id="usage"' not in response.content.decode()

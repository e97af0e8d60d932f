"""The first page of the console: its numbers, its lists, and what it says when there is nothing."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit import clock
from gateways.models import Gateway
from keys import lifecycle
from keys.issuing import IssuedKey
from tests.factories import TESTS, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import main_of
from usage.models import KeyMetrics, UsageBucket

DASHBOARD = "/admin/"
ATTENTION = "/admin/attention/"


def figures(response: Any) -> dict[str, str]:
    """Return the four numbers at the top."""
    tiles = re.findall(r'<h2>([^<]*)</h2><p class="kt-number[^>]*>([^<]*)</p>', response.content.decode())
    return dict(tiles)


def concern(response: Any, title: str) -> list[str]:
    """Return the keys that a list of those that need attention names."""
    for card in response.content.decode().split('<div class="kt-card kt-concern">')[1:]:
        if title in card:
            return re.findall(r'<a class="kt-link" href="/admin/keys/gatewaykey/[^"]*/change/">([^<]*)</a>', card)
    return []


def count(gateway: Gateway, issued: IssuedKey, **sums: int) -> None:
    start = clock.now().replace(minute=0, second=0, microsecond=0)
    group = issued.key.consumer_group
    UsageBucket.objects.create(start=start, gateway=gateway, version=issued.version, consumer_group=group, **sums)


def used(issued: IssuedKey, *, days_ago: int) -> None:
    KeyMetrics.objects.create(key=issued.key, last_used_at=clock.now() - timedelta(days=days_ago), total_requests=1)


def aged(days: int, name: str, **particulars: Any) -> IssuedKey:
    """Make a key as if it had been made so many days ago."""
    with time_machine.travel(clock.now() - timedelta(days=days)):
        return make_key(name, **particulars)


def test_the_figures_count_what_is_there(browser: BrowserOf, auditor: Member) -> None:
    issued = make_key(expires_at=clock.now() + timedelta(days=3))
    make_key(expires_at=clock.now() + timedelta(days=30))
    lifecycle.disable(actor=TESTS, key_id=make_key().key.pk)
    lifecycle.revoke(actor=TESTS, key_id=make_key().key.pk)
    count(make_gateway(usage_source="report").gateway, issued, requests=1200, status_2xx=900, status_5xx=100, denials=7)
    response = browser(auditor).get(DASHBOARD)
    assert figures(response) == {"Active keys": "2", "Expiring": "1", "Requests": "1,200", "Error rate": "10.0 %"}
    assert "7 denied" in main_of(response)
    assert "100 of 1,000 reported" in main_of(response)


def test_an_error_rate_that_nobody_reported_is_not_reported(browser: BrowserOf, auditor: Member) -> None:
    count(make_gateway().gateway, make_key(), requests=5)
    response = browser(auditor).get(DASHBOARD)
    assert figures(response)["Error rate"] == "not reported"
    assert figures(response)["Requests"] == "5"


def test_the_chart_and_its_table_say_the_same(browser: BrowserOf, auditor: Member) -> None:
    count(make_gateway().gateway, make_key(), requests=40, status_2xx=30, status_4xx=10, denials=3)
    response = browser(auditor).get(DASHBOARD)
    chart = json.loads(unescape(re.findall(r'data-value="([^"]*)"', response.content.decode())[0]))
    assert {dataset["label"]: sum(dataset["data"]) for dataset in chart["datasets"]} == {
        "Served": 30,
        "Errors": 10,
        "Denied": 3,
    }
    assert all(dataset["displayYAxis"] and dataset["maxBarThickness"] > 4 for dataset in chart["datasets"])
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    assert f"{hour:%Y-%m-%d %H:%M} 40 10 25.0 % 3" in main_of(response)


def test_each_list_names_the_keys_that_need_it(browser: BrowserOf, admin: Member) -> None:
    soon = clock.now() + timedelta(days=300)
    used(make_key("ends-soon", expires_at=clock.now() + timedelta(days=6)), days_ago=0)
    used(aged(60, "sleeps", expires_at=soon), days_ago=40)
    aged(2, "untouched", expires_at=soon)
    used(make_key("lives-for-ever", expires_at=None), days_ago=0)
    graceful = make_key("lingers", expires_at=soon)
    used(graceful, days_ago=0)
    lifecycle.rotate(actor=TESTS, key_id=graceful.key.pk, grace=timedelta(days=10))
    used(make_key("fine", expires_at=soon), days_ago=0)
    response = browser(admin).get(ATTENTION)
    assert concern(response, "Expiring soon") == ["ends-soon"]
    assert concern(response, "Unused for 30 days") == ["sleeps"]
    assert concern(response, "Never used") == ["untouched"]
    assert concern(response, "Without expiry") == ["lives-for-ever"]
    assert concern(response, "Long in grace") == ["lingers"]


def test_a_key_that_is_over_needs_no_attention(browser: BrowserOf, admin: Member) -> None:
    lifecycle.revoke(actor=TESTS, key_id=aged(60, "revoked").key.pk)
    lifecycle.disable(actor=TESTS, key_id=aged(60, "disabled").key.pk)
    assert "Nothing expires soon" in browser(admin).get(ATTENTION).content.decode()


def test_every_link_leads_to_a_list_that_counts_the_same(browser: BrowserOf, admin: Member) -> None:
    for number in range(7):
        used(make_key(f"for-ever-{number}", expires_at=None), days_ago=0)
    lifecycle.disable(actor=TESTS, key_id=make_key("disabled", expires_at=None).key.pk)
    client = browser(admin)
    response = client.get(DASHBOARD)
    part = client.get(ATTENTION)
    assert len(concern(part, "Without expiry")) == 5
    link = unescape(re.findall(r'href="([^"]*)" aria-label="all 7: Without expiry"', part.content.decode())[0])
    assert "7 gateway keys" in main_of(client.get(link))
    for path in re.findall(r'class="kt-figure kt-tile" href="([^"]*)"', response.content.decode()):
        assert client.get(unescape(path)).status_code == 200


def test_a_manager_sees_the_figures_of_their_keys_only(browser: BrowserOf, manager: Member) -> None:
    gateway = make_gateway().gateway
    mine = make_key("mine", consumer_group=make_group(managers=[manager]), expires_at=None)
    hidden = make_key("hidden", consumer_group=make_group(managers=[make_member("manager")]), expires_at=None)
    count(gateway, mine, requests=3)
    count(gateway, hidden, requests=1000)
    response = browser(manager).get(DASHBOARD)
    assert figures(response)["Active keys"] == "1"
    assert figures(response)["Requests"] == "3"
    assert "hidden" not in main_of(response)


def test_an_empty_console_says_what_to_do(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    page = client.get(DASHBOARD).content.decode()
    for address in ("keys/consumergroup/add/", "gateways/gateway/add/", "keys/gatewaykey/add/"):
        assert f'href="/admin/{address}"' in page
    make_group()
    page = client.get(DASHBOARD).content.decode()
    assert 'href="/admin/keys/consumergroup/add/"' not in page
    make_key()
    assert "Nothing is here yet" not in client.get(DASHBOARD).content.decode()


def test_an_auditor_is_not_sent_where_they_may_not_go(browser: BrowserOf, auditor: Member) -> None:
    response = browser(auditor).get(DASHBOARD)
    assert "/add/" not in response.content.decode()
    assert "an Admin or a Manager takes these steps" in main_of(response)


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_the_number_of_queries_does_not_grow_with_the_data(
    browser: BrowserOf,
    django_assert_num_queries: DjangoAssertNumQueries,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    role: str,
) -> None:
    gateway = make_gateway().gateway

    def fill(number: int) -> None:
        for _ in range(number):
            issued = aged(60, f"key-{number}", consumer_group=make_group(), expires_at=clock.now() + timedelta(days=5))
            aged(60, f"eternal-{number}", expires_at=None)
            count(gateway, issued, requests=1)

    client = browser(make_member(role))
    fill(3)
    with django_assert_max_num_queries(12) as first:
        client.get(DASHBOARD)
    fill(22)
    with django_assert_num_queries(len(first)):
        client.get(DASHBOARD)
    with django_assert_max_num_queries(12):
        client.get(ATTENTION)

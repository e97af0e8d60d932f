"""The page of one gateway key: figures, chart, versions, and what the audit log says of it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit import clock
from keys import lifecycle
from keys.models import GatewayKey, KeyVersion
from tests.factories import TESTS, actor_of, make_gateway, make_group, make_key, make_member
from tests.keys.conftest import Console, page_of, text_of
from usage.models import KeyMetrics, UsageBucket, VersionMetrics


def read(client: Client, key: GatewayKey) -> str:
    response = client.get(page_of(key))
    assert response.status_code == 200
    text = text_of(response)
    # What Django takes for no comment, or no tag, it shows.
    assert "{#" not in text
    assert "{%" not in text
    return text


def bucket(version: KeyVersion, *, minutes_ago: int = 10, **counts: Any) -> None:
    gateway = make_gateway().gateway
    start = clock.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    UsageBucket.objects.create(start=start, gateway=gateway, version=version, **counts)


def test_the_figures_are_the_keys_own(console: Console, auditor: Member) -> None:
    key, other = make_key().key, make_key().key
    KeyMetrics.objects.create(key=key, total_requests=98765, last_used_at=clock.now() - timedelta(hours=2))
    bucket(key.versions.get(), requests=200, status_2xx=190, status_5xx=10, denials=7)
    bucket(other.versions.get(), requests=5000, status_5xx=5000)
    text = read(console(auditor), key)
    assert "Total requests 98,765" in text
    assert "2 hours ago" in text
    assert "Requests (24 hours) 200 and 7 denied" in text
    assert "Error rate 5.0 % 10 of 200 reported in 24 hours" in text


def test_an_error_rate_that_nobody_reported_is_no_zero(console: Console, auditor: Member) -> None:
    key = make_key().key
    bucket(key.versions.get(), requests=200)
    assert "Error rate not reported" in read(console(auditor), key)


def test_a_key_that_was_never_used_has_a_page(console: Console, auditor: Member) -> None:
    text = read(console(auditor), make_key().key)
    assert "Total requests 0" in text
    assert "Last used Never" in text
    assert "Nothing was asked of this key" in text


def test_the_chart_and_its_table_say_the_same(console: Console, auditor: Member) -> None:
    key = make_key().key
    bucket(key.versions.get(), requests=200, status_2xx=190, status_5xx=10, denials=7)
    page = console(auditor).get(page_of(key)).content.decode()
    found = re.search(r'data-value="([^"]*)"', page)
    assert found
    chart = json.loads(unescape(found[1]))
    sums = {dataset["label"]: sum(dataset["data"]) for dataset in chart["datasets"]}
    assert sums == {"2xx": 190, "5xx": 10, "Denied": 7}
    assert len(chart["labels"]) == 24
    rows = re.findall(r'<th scope="row" class="kt-nowrap">[-\d]+ [:\d]+</th>(.*?)</tr>', page)
    cells = [[int(cell) for cell in re.findall(r">(\d+)<", row)] for row in rows]
    assert [sum(column) for column in zip(*cells, strict=True)] == [200, 10, 7, 0, 190, 0, 0, 10]


def test_each_version_has_its_own_last_use(console: Console, auditor: Member) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=9))
    new, old = key.versions.all()
    VersionMetrics.objects.create(version=old, total_requests=1234, last_used_at=clock.now() - timedelta(minutes=3))
    bucket(old, requests=12)
    text = read(console(auditor), key)
    assert f"{new.number} Current {new.hint}" in text
    assert f"{old.number} In grace {old.hint}" in text
    assert "3 minutes ago still 12 requests in the last hour 1,234" in text


def test_recent_entries_of_this_key_and_no_other(console: Console, auditor: Member) -> None:
    key, other = make_key("ours").key, make_key("other").key
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    lifecycle.revoke(actor=TESTS, key_id=other.pk)
    text = read(console(auditor), key)
    assert "Key created" in text
    assert "Key disabled" in text
    assert "Key revoked" not in text


def test_a_revoked_key_says_who_when_and_why(console: Console, auditor: Member, admin: Member) -> None:
    key = make_key().key
    lifecycle.revoke(actor=actor_of(admin), key_id=key.pk, reason="Leaked in a build log")
    text = read(console(auditor), key)
    assert "Leaked in a build log" in text
    assert f"by {admin.username}" in text


def test_the_groups_networks_are_named_with_the_keys_own(console: Console, auditor: Member) -> None:
    group = make_group(allowed_networks=["10.20.0.0/16"])
    assert f"Allowed networks The policy of {group.name}: 10.20.0.0/16" in read(
        console(auditor), make_key(consumer_group=group).key
    )
    narrower = make_key(consumer_group=group, allowed_networks=["10.20.4.0/24"]).key
    assert f"10.20.4.0/24 within the policy of {group.name}: 10.20.0.0/16" in read(console(auditor), narrower)
    assert "Allowed networks Any" in read(console(auditor), make_key().key)


def test_a_manager_is_told_why_they_only_look_at_a_key(console: Console, manager: Member, auditor: Member) -> None:
    make_group(managers=[make_member("manager")])
    key, why = make_key().key, "only who manages all of them may change it"
    assert why in read(console(manager), key)
    assert why not in read(console(auditor), key)


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_the_page_asks_as_often_for_many_versions_as_for_few(
    role: str, console: Console, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = console(make_member(role))
    key = make_key(consumer_group=make_group()).key

    def queries() -> int:
        with django_assert_max_num_queries(12) as seen:
            assert client.get(page_of(key)).status_code == 200
        return len(seen)

    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=9))
    # What a process asks for once, such as content types, is no matter of how many versions there are.
    client.get(page_of(key))
    few = queries()
    for _ in range(8):
        lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=9))
    assert queries() == few

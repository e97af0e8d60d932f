"""Lists of keys: filters, search, order, pages, exports, and how many queries they take."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from keys import csv_export, lifecycle
from keys.models import GatewayKey
from tests.factories import TESTS, actor_of, make_access_key, make_group, make_key, make_member
from tests.fixtures import ApiOf
from usage.models import KeyMetrics

pytestmark = pytest.mark.django_db
KEYS = "/api/v1/gateway-keys/"
EXPORT = f"{KEYS}export.csv"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def names(client: APIClient, **parameters: Any) -> list[str]:
    answer = client.get(KEYS, parameters)
    assert answer.status_code == 200, answer.content
    return [key["name"] for key in answer.json()["results"]]


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.getvalue().decode())))


@pytest.fixture
def zoo(db: None) -> dict[str, GatewayKey]:
    """One key of every kind, made on different days; their names say what they are."""
    with time_machine.travel(NOW - 100 * DAY, tick=False):
        group = make_group("payments")
        kinds: dict[str, dict[str, Any]] = {
            "active": {"consumer_group": group},
            "unscoped": {"description": "for the old batch"},
            "expiring": {"consumer_group": group, "expires_at": NOW + 5 * DAY},
            "expired": {"consumer_group": group, "expires_at": NOW - DAY},
            "revoked": {"consumer_group": group, "expires_at": NOW + 5 * DAY},
            "disabled": {"consumer_group": group, "expires_at": NOW + 300 * DAY},
        }
        keys = {name: make_key(name, **particulars).key for name, particulars in kinds.items()}
    lifecycle.revoke(actor=TESTS, key_id=keys["revoked"].pk)
    lifecycle.disable(actor=TESTS, key_id=keys["disabled"].pk)
    with time_machine.travel(NOW - DAY, tick=False):
        keys["rotating"] = make_key("rotating", consumer_group=group).key
        lifecycle.rotate(actor=TESTS, key_id=keys["rotating"].pk, grace=10 * DAY)
    KeyMetrics.objects.create(key=keys["active"], total_requests=9, last_used_at=NOW - 40 * DAY, requests_24h=0)
    KeyMetrics.objects.create(key=keys["expiring"], total_requests=5, last_used_at=NOW - DAY, requests_24h=5)
    KeyMetrics.objects.create(key=keys["disabled"], total_requests=0)
    return keys


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "active disabled expired expiring revoked rotating unscoped"),
        ({"status": "active"}, "active expiring unscoped"),
        ({"status": "rotating"}, "rotating"),
        ({"status": ["revoked", "expired"]}, "expired revoked"),
        ({"status": "disabled"}, "disabled"),
        ({"consumer_group": "payments", "status": "active"}, "active expiring"),
        ({"consumer_group": "nobody"}, ""),
        ({"unscoped": "true"}, "unscoped"),
        ({"unscoped": "false", "status": "active"}, "active expiring"),
        ({"expires_before": "2026-11-24T00:00:00Z"}, "expired"),
        ({"expires_after": "2026-11-24T00:00:00+00:00"}, "disabled expiring revoked"),
        ({"expiring_within_days": 5}, "expiring"),
        ({"expiring_within_days": 4}, ""),
        ({"expiring_within_days": 36500}, "disabled expiring"),
        ({"no_expiry": "true"}, "active rotating unscoped"),
        ({"no_expiry": "false"}, "disabled expired expiring revoked"),
        ({"created_after": "2026-11-22T00:00:00Z"}, "rotating"),
        ({"created_before": "2026-11-22T00:00:00Z", "unscoped": "true"}, "unscoped"),
        ({"last_used_before": "2026-11-01T00:00:00Z"}, "active"),
        ({"never_used": "true"}, "disabled expired revoked rotating unscoped"),
        ({"never_used": "false"}, "active expiring"),
        ({"unused_for_days": 30}, "active disabled expired revoked unscoped"),
        ({"unused_for_days": 50, "status": "active"}, "unscoped"),
        ({"search": "BATCH"}, "unscoped"),
        ({"search": "old batch"}, "unscoped"),
        ({"search": "old nothing"}, ""),
        ({"search": "%"}, ""),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_a_list_is_narrowed(api: ApiOf, parameters: dict[str, Any], expected: str) -> None:
    assert sorted(names(api(make_member()), **parameters)) == expected.split()


@time_machine.travel(NOW, tick=False)
def test_a_key_is_found_by_its_id_its_hint_and_an_older_hint(api: ApiOf, zoo: dict[str, GatewayKey]) -> None:
    client = api(make_member())
    assert names(client, search=str(zoo["active"].pk)) == ["active"]
    assert names(client, search=zoo["rotating"].hint) == ["rotating"]
    older = zoo["rotating"].versions.get(number=1).hint
    assert names(client, search=older) == ["rotating"]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("ordering", "first", "last"),
    [
        ("name", "active", "unscoped"),
        ("-name", "unscoped", "active"),
        ("-created_at", "rotating", None),
        ("expires_at", "expired", None),
        ("-expires_at", "disabled", None),
        ("last_used_at", "active", None),
        ("-last_used_at", "expiring", None),
        ("-requests_24h", "expiring", None),
        ("consumer_group,name", None, None),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_a_list_is_ordered_and_what_is_absent_comes_last(
    api: ApiOf, ordering: str, first: str | None, last: str | None
) -> None:
    client = api(make_member())
    if first is None:
        assert client.get(KEYS, {"ordering": ordering}).status_code == 400
        return
    listed = names(client, ordering=ordering)
    assert listed[0] == first
    assert last is None or listed[-1] == last


def test_pages_with_ties_hold_every_key_once(admin_api: APIClient) -> None:
    with time_machine.travel(NOW, tick=False):
        ids = {str(make_key("same").key.pk) for _ in range(7)}
    for ordering in ("name", "-created_at", "last_used_at", "-requests_24h"):
        seen, url = [], f"{KEYS}?page_size=2&ordering={ordering}"
        while url:
            page = admin_api.get(url).json()
            assert page["count"] == 7
            seen += [key["id"] for key in page["results"]]
            url = page["next"]
        assert (len(seen), set(seen)) == (7, ids)


def test_a_page_takes_the_same_queries_however_many_keys(
    admin_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    group = make_group(managers=[])
    for _ in range(2):
        make_key(consumer_group=group)
    admin_api.get(KEYS)
    for _ in range(2):
        # The access key, the count, which keys, these with group, members and figures, their versions.
        with django_assert_num_queries(5):
            assert admin_api.get(KEYS).status_code == 200
        for _ in range(5):
            lifecycle.rotate(actor=TESTS, key_id=make_key(consumer_group=group).key.pk)


# --- exports ----------------------------------------------------------------------------------------------------------


def test_an_export_holds_what_the_list_shows_and_is_recorded(admin_api: APIClient, admin: Member) -> None:
    group = make_group("payments")
    used = make_key("used", consumer_group=group, allowed_networks=["10.0.0.0/8", "::/0"]).key
    KeyMetrics.objects.create(key=used, total_requests=4, total_reported=4, total_errors=1)
    make_key("other")
    answer = admin_api.get(EXPORT, {"consumer_group": "payments"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="gateway-keys.csv"'
    (row,) = rows(answer)
    assert tuple(row) == csv_export.COLUMNS
    assert (row["id"], row["name"], row["consumer_group"], row["status"]) == (
        str(used.pk),
        "used",
        "payments",
        "active",
    )
    assert (row["version"], row["total_requests"], row["error_rate"]) == ("1", "4", "0.25")
    assert (row["created_by"], row["allowed_networks"]) == ("system", "10.0.0.0/8 ::/0")
    assert datetime.fromisoformat(row["created_at"]).utcoffset() == timedelta(0)
    entry = AuditEntry.objects.get(action="gateway_key.exported")
    assert entry.actor_label == admin.username
    assert entry.detail == {"filter": {"consumer_group": "payments"}, "rows": 1}


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_an_export_is_a_formula(admin_api: APIClient, start: str) -> None:
    make_key(f"{start}cmd|' /C calc'!A0", description=f"{start}1+1")
    (row,) = rows(admin_api.get(EXPORT))
    assert row["name"] == f"'{start}cmd|' /C calc'!A0"
    assert row["description"] == f"'{start}1+1"


def test_an_export_takes_the_same_queries_however_many_keys(
    admin_api: APIClient, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    group = make_group()
    for _ in range(12):
        make_key(consumer_group=group)
    with django_assert_max_num_queries(13):
        assert len(rows(admin_api.get(EXPORT))) == 12


def test_who_exports_gets_what_they_see_and_the_filters_hold(api: ApiOf, manager: Member, auditor: Member) -> None:
    mine = make_group("mine", managers=[manager])
    foreign = make_group("foreign", managers=[make_member("manager")])
    make_key("own", consumer_group=mine)
    make_key("hidden", consumer_group=foreign)
    assert [row["name"] for row in rows(api(manager).get(EXPORT))] == ["own"]
    assert len(rows(api(auditor).get(EXPORT))) == 2
    assert api(auditor).get(EXPORT, {"colour": "red"}).status_code == 400
    assert api(auditor).get(EXPORT, {"page": 1}).status_code == 400


def test_an_export_has_no_value_in_it(admin_api: APIClient, admin: Member) -> None:
    issued = lifecycle.create(actor=actor_of(admin), name="a")
    assert issued.value[10:] not in admin_api.get(EXPORT).getvalue().decode()


@pytest.mark.django_db(transaction=True)
def test_under_asgi_an_export_is_streamed_part_by_part(admin: Member) -> None:
    key = make_access_key(admin)
    for number in range(3):
        make_key(f"k{number}")

    async def download() -> list[bytes]:
        # As browsers ask. Parts that are each squeezed by themselves would be read up to the end of the first.
        headers = {"Authorization": f"Bearer {key.value}", "Accept-Encoding": "gzip"}
        answer: Any = await AsyncClient().get(EXPORT, headers=headers)
        assert answer.is_async
        return [part async for part in answer.streaming_content]

    parts = async_to_sync(download)()
    assert len(parts) == 2
    assert b"".join(parts).count(b"\r\n") == 4

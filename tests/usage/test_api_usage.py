"""Usage over the API: events, and the figures of a key."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.factories import make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf
from usage.api import EventJSON
from usage.models import KeyMetrics, Outcome, UsageBucket, UsageEvent

pytestmark = pytest.mark.django_db
EVENTS = "/api/v1/usage-events/"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_event(gateway: Gateway, issued: IssuedKey | None, number: int = 1, **facts: Any) -> UsageEvent:
    """Write an event as ingestion would."""
    identity: dict[str, Any] = {"outcome": Outcome.DENIED, "reason": "key_unknown"}
    if issued is not None:
        identity = {"outcome": Outcome.SERVED, "key": issued.key, "version": issued.version}
        identity["consumer_group"] = issued.key.consumer_group
    return UsageEvent.objects.create(
        **{"gateway": gateway, "event_id": f"e{number}", "occurred_at": NOW, "received_at": NOW, **identity, **facts}
    )


def ids(client: APIClient, **parameters: Any) -> list[str]:
    answer = client.get(EVENTS, parameters)
    assert answer.status_code == 200, answer.content
    return [event["event_id"] for event in answer.json()["results"]]


def test_events_are_listed_newest_first_and_narrowed(admin_api: APIClient) -> None:
    gateway, other = make_gateway("edge").gateway, make_gateway("other").gateway
    issued = make_key("bot", consumer_group=make_group("payments"))
    make_event(gateway, issued, 1, status=200, model="gpt", decision_id="d1", occurred_at=NOW - timedelta(hours=2))
    make_event(other, issued, 2, status=503, cost=Decimal("0.000000001"))
    make_event(gateway, None, 3, occurred_at=NOW - timedelta(hours=1))
    assert ids(admin_api) == ["e2", "e3", "e1"]
    for parameters, expected in [
        ({"key": str(issued.key.pk)}, ["e2", "e1"]),
        ({"gateway": str(other.pk)}, ["e2"]),
        ({"consumer_group": "payments", "ordering": "occurred_at"}, ["e1", "e2"]),
        ({"outcome": "denied"}, ["e3"]),
        ({"reason": "key_unknown"}, ["e3"]),
        ({"status_class": "5xx"}, ["e2"]),
        ({"status_class": "2xx"}, ["e1"]),
        ({"model": "gpt"}, ["e1"]),
        ({"decision_id": "d1"}, ["e1"]),
        ({"occurred_after": "2026-11-23T11:00:00Z"}, ["e2", "e3"]),
        ({"occurred_before": "2026-11-23T12:00:00+01:00"}, ["e1"]),
        ({"search": "bot"}, ["e2", "e1"]),
    ]:
        assert ids(admin_api, **parameters) == expected, parameters
    shown = admin_api.get(EVENTS).json()["results"][0]
    assert (shown["gateway"], shown["key_name"], shown["key_version"]) == ("other", "bot", 1)
    assert admin_api.get(f"{EVENTS}{shown['id']}/").json() == shown


@pytest.mark.parametrize(
    "query", ["key=x", "gateway=1", "outcome=x", "status_class=6xx", "occurred_after=now", "model=%00", "colour=red"]
)
def test_a_parameter_that_means_nothing_is_400(admin_api: APIClient, query: str) -> None:
    assert list(admin_api.get(f"{EVENTS}?{query}").json()["fields"]) == [query.partition("=")[0]]


def test_a_manager_sees_the_events_of_their_keys_alone(api: ApiOf, manager: Member) -> None:
    gateway = make_gateway().gateway
    mine = make_key(consumer_group=make_group(managers=[manager]))
    foreign = make_key(consumer_group=make_group(managers=[make_member("manager")]))
    hidden = make_event(gateway, foreign, 2)
    make_event(gateway, mine, 1)
    make_event(gateway, None, 3)
    client = api(manager)
    assert ids(client) == ["e1"]
    assert client.get(f"{EVENTS}{hidden.pk}/").status_code == 404
    assert client.get(f"/api/v1/gateway-keys/{foreign.key.pk}/metrics/").status_code == 404


def test_an_export_of_events_is_recorded(admin_api: APIClient) -> None:
    gateway = make_gateway().gateway
    make_event(gateway, make_key("=bot"), 1, cost=Decimal("0.000000001"), path="-x")
    make_event(gateway, None, 2)
    answer = admin_api.get(f"{EVENTS}export.csv", {"outcome": "served"})
    (row,) = csv.DictReader(io.StringIO(answer.getvalue().decode()))
    assert list(row) == EventJSON.Meta.fields
    assert (row["key_name"], row["path"], row["cost"]) == ("'=bot", "'-x", "0.000000001")
    entry = AuditEntry.objects.get(action="usage.exported")
    assert entry.detail == {"filter": {"outcome": "served"}, "rows": 1}


def test_a_page_takes_the_same_queries_however_many_events(
    admin_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    gateway, issued = make_gateway().gateway, make_key(consumer_group=make_group())
    admin_api.get(EVENTS)
    for number in range(3):
        make_event(gateway, issued, number)
        with django_assert_num_queries(3):
            assert admin_api.get(EVENTS).status_code == 200


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize(("window", "requests", "points"), [("24h", 5, 24), ("7d", 5, 28), ("30d", 7, 30)])
def test_the_figures_of_a_key_in_a_window(api: ApiOf, window: str, requests: int, points: int) -> None:
    gateway, issued = make_gateway().gateway, make_key()
    bucket = {"gateway": gateway, "version": issued.version}
    UsageBucket.objects.create(
        start=NOW - timedelta(hours=1), requests=5, status_2xx=3, status_5xx=1, denials=2, **bucket
    )
    UsageBucket.objects.create(start=NOW - timedelta(days=10), requests=2, **bucket)
    KeyMetrics.objects.create(key=issued.key, total_requests=7, last_used_at=NOW, requests_24h=5)
    shown = api(make_member()).get(f"/api/v1/gateway-keys/{issued.key.pk}/metrics/", {"window": window}).json()
    assert (shown["window"], shown["total_requests"], shown["last_used_at"]) == (window, 7, "2026-11-23T12:00:00Z")
    assert (shown["figures"]["requests"], shown["figures"]["errors"], shown["figures"]["error_rate"]) == (
        requests,
        1,
        0.25,
    )
    assert len(shown["series"]) == points
    assert sum(point["figures"]["requests"] for point in shown["series"]) == requests


def test_the_figures_of_a_key_nobody_used_are_zeros_and_nulls(admin_api: APIClient) -> None:
    path = f"/api/v1/gateway-keys/{make_key().key.pk}/metrics/"
    shown = admin_api.get(path).json()
    assert (shown["total_requests"], shown["last_used_at"], shown["error_rate"], shown["window"]) == (
        0,
        None,
        None,
        "24h",
    )
    for query in ("window=1h", "window=", "window=%00", "span=7d"):
        assert list(admin_api.get(f"{path}?{query}").json()["fields"]) == [query.partition("=")[0]]

"""An export takes exactly what the list shows."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from access.models import Member
from audit import clock
from audit.models import AuditEntry
from keys import lifecycle
from tests.factories import actor_of, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, main_of
from tests.usage.test_console import make_event

LOG = "/admin/audit/auditentry/"
KEYS = "/admin/keys/gatewaykey/"


def exported(client: Client, query: dict[str, str]) -> list[str]:
    download: Any = client.get(f"{LOG}export/", query, follow=True)
    assert download.status_code == 200, download.content
    return [row["id"] for row in csv.DictReader(download.getvalue().decode().splitlines())]


@pytest.mark.parametrize("given", ["actor", "actor_kind", "action", "object", "search", "day"])
def test_an_export_takes_exactly_what_the_list_shows(
    browser: BrowserOf, auditor: Member, admin: Member, given: str
) -> None:
    key = make_key("billing").key
    make_key("other")
    lifecycle.revoke(actor=actor_of(admin), key_id=key.pk)
    query = {
        "actor": {"actor": str(admin.pk)},
        "actor_kind": {"actor_kind": "member"},
        "action": {"action__exact": "gateway_key.revoked"},
        "object": {"object_type": "gateway_key", "object_id": str(key.pk)},
        "search": {"q": "bill revoked"},
        "day": {"at_from": clock.now().date().isoformat(), "at_to": clock.now().date().isoformat(), "q": "other"},
    }[given]
    client = browser(auditor)
    page = client.get(LOG, query)
    assert "Export these (CSV)" in main_of(page)
    listed = [
        link.split("/")[4]
        for link in page.content.decode().split('href="')
        if link.startswith(f"{LOG}") and "/change/" in link
    ]
    assert column(page, "what")
    assert exported(client, query) == list(dict.fromkeys(listed))


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ({"status_class": "errors"}, ["/refused", "/failed"]),
        ({"status_class": "5"}, ["/failed"]),
        ({"q": "billing"}, ["/failed", "/fine"]),
        ({"outcome__exact": "denied"}, ["/denied"]),
        ({"outcome__exact": "served"}, ["/refused", "/failed", "/fine"]),
    ],
)
def test_usage_events_are_exported_as_the_list_shows_them(
    browser: BrowserOf, auditor: Member, query: dict[str, str], paths: list[str]
) -> None:
    gateway, billing, other = make_gateway().gateway, make_key("billing"), make_key("other")
    now = clock.now()
    made = ((billing, "/fine", 200), (billing, "/failed", 503), (other, "/refused", 404))
    for number, (key, path, status) in enumerate(made):
        make_event(gateway, key, path=path, status=status, occurred_at=now - timedelta(minutes=10 - number))
    make_event(gateway, other, path="/denied", reason="key_expired", occurred_at=now - timedelta(hours=1))
    download: Any = browser(auditor).get("/admin/usage/usageevent/export/", query)
    found = [row["path"] for row in csv.DictReader(download.getvalue().decode().splitlines())]
    assert found == paths
    assert AuditEntry.objects.get(action="usage.exported").detail == {"filter": query, "rows": len(paths)}


def test_keys_are_exported_as_the_list_shows_them(browser: BrowserOf, manager: Member) -> None:
    group = make_group("mine", managers=[manager])
    keys = [make_key(name, consumer_group=group).key for name in ("a", "b", "c")]
    lifecycle.disable(actor=actor_of(manager), key_id=keys[1].pk)
    make_key("hidden", consumer_group=make_group("foreign", managers=[make_member("manager")]))
    client = browser(manager)
    query = {"status": ["active", "rotating"], "o": "1"}
    assert "export/?status=active&amp;status=rotating&amp;o=1" in client.get(KEYS, query).content.decode()
    download: Any = client.get(f"{KEYS}export/", query)
    assert [row["name"] for row in csv.DictReader(download.getvalue().decode().splitlines())] == ["a", "c"]


def test_what_is_no_filter_leads_back_to_the_list(browser: BrowserOf, auditor: Member) -> None:
    response = browser(auditor).get(f"{KEYS}export/", {"hint__startswith": "kt_gk_a"})
    assert response.headers["Location"] == f"{KEYS}?hint__startswith=kt_gk_a"
    assert not AuditEntry.objects.filter(action="gateway_key.exported").exists()


def test_an_export_too_many_leads_back_to_the_list_that_says_so(browser: BrowserOf, auditor: Member) -> None:
    client = browser(auditor)
    running = [client.get(f"{KEYS}export/") for _ in range(2)]
    assert "2 exports of yours are still running" in main_of(client.get(f"{KEYS}export/", follow=True))
    running.clear()


def test_days_are_exported_by_what_sums_know(browser: BrowserOf, auditor: Member) -> None:
    client = browser(auditor)
    place = "/admin/usage/usageevent/export-days/"
    response = client.get(place, {"occurred_at_from": "2026-01-01", "occurred_at_to": "2026-01-31"})
    assert response.headers["Location"] == "/api/v1/usage-days/export.csv?day_from=2026-01-01&day_to=2026-01-31"
    refused = client.get(place, {"status_class": "errors"}, follow=True)
    assert "Sums of a day are not kept apart by status." in main_of(refused)

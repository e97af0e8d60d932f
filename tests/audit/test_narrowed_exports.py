"""An export takes exactly what the list shows."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from django.test import Client

from access.models import Member
from audit import clock
from keys import lifecycle
from tests.factories import actor_of, make_key
from tests.fixtures import BrowserOf
from tests.pages import column, main_of

LOG = "/admin/audit/auditentry/"


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


def test_usage_events_are_exported_by_their_filters_or_not_at_all(browser: BrowserOf, auditor: Member) -> None:
    client = browser(auditor)
    place = "/admin/usage/usageevent/export/"
    response = client.get(place, {"outcome__exact": "denied", "status_class": "4"})
    assert response.headers["Location"] == "/api/v1/usage-events/export.csv?outcome=denied&status_class=4xx"
    refused = client.get(place, {"status_class": "errors"}, follow=True)
    assert "The file cannot be narrowed by the status" in main_of(refused)

"""What every screen of the console does alike, whatever an address says."""

from __future__ import annotations

import pytest
from django.test import Client

from access.models import Member
from audit.models import AuditEntry
from tests.factories import make_gateway, make_group, make_key
from tests.fixtures import BrowserOf


@pytest.fixture
def client(browser: BrowserOf, admin: Member) -> Client:
    return browser(admin)


@pytest.mark.parametrize("field", ["", "name", "digest", "no_such_field"])
def test_an_object_is_found_by_its_primary_key_whatever_column_the_address_names(client: Client, field: str) -> None:
    key = make_key().key
    entry = AuditEntry.objects.latest("id")
    for page in (
        f"keys/gatewaykey/{key.pk}",
        f"keys/consumergroup/{make_group().pk}",
        f"gateways/gateway/{make_gateway().gateway.pk}",
        f"audit/auditentry/{entry.pk}",
    ):
        for answer in (
            client.get(f"/admin/{page}/change/", {"_to_field": field}),
            client.post(f"/admin/{page}/change/", {"_to_field": field}),
        ):
            assert answer.status_code < 500, page

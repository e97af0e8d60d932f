"""A list keeps its filters through what is done from it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from access.models import Member
from tests.factories import make_key
from tests.fixtures import BrowserOf
from tests.pages import confirmed, save

pytestmark = pytest.mark.django_db

LIST = "/admin/keys/gatewaykey/"
HERE = "http://testserver"
FILTERS = "q=billing&o=-1"


@pytest.fixture
def client(browser: BrowserOf, admin: Member) -> Client:
    return browser(admin)


def kept(url: str) -> str:
    """Return the filters that an address leads back to."""
    return parse_qs(urlsplit(url).query).get("_changelist_filters", [""])[0]


def rotated(client: Client, **headers: str) -> str:
    """Return where the dialog leads that shows the value of a key just rotated."""
    key = make_key().key
    answer: Any = client.post(f"{LIST}{key.pk}/rotate/", confirmed(grace="3600"), headers=headers)
    return str(answer.context["secret"].done_url)


@pytest.mark.parametrize("name", ["keys/gatewaykey", "keys/consumergroup", "gateways/gateway", "access/accesskey"])
def test_the_way_to_create_leads_back_to_the_filtered_list(client: Client, name: str) -> None:
    answer = client.get(f"/admin/{name}/create/", headers={"Referer": f"{HERE}/admin/{name}/?{FILTERS}"})
    assert kept(answer.headers["Location"]) == FILTERS
    assert f"/admin/{name}/?{FILTERS.replace('&', '&amp;')}" in client.get(answer.headers["Location"]).content.decode()


def test_a_rotation_from_the_list_leads_back_to_the_filtered_list(client: Client) -> None:
    assert kept(rotated(client, **{"HX-Current-URL": f"{HERE}{LIST}?{FILTERS}"})) == FILTERS


def test_a_rotation_from_the_page_of_a_key_keeps_what_the_page_kept(client: Client) -> None:
    page = f"{HERE}{LIST}{make_key().key.pk}/change/?_changelist_filters=q%3Dbilling%26o%3D-1"
    assert kept(rotated(client, **{"HX-Current-URL": page})) == FILTERS


@pytest.mark.parametrize(
    "here",
    [
        "",
        "not an address",
        f"{HERE}{LIST}",
        f"http://elsewhere.test{LIST}?{FILTERS}",
        f"{HERE}/admin/gateways/gateway/?{FILTERS}",
        f"{HERE}/api/v1/gateway-keys/?{FILTERS}",
    ],
)
def test_other_places_have_no_filters_to_keep(client: Client, here: str) -> None:
    assert kept(rotated(client, **{"HX-Current-URL": here})) == ""


def test_saving_leads_back_to_the_filtered_list(client: Client) -> None:
    key = make_key().key
    page = f"{LIST}{key.pk}/change/?_changelist_filters=q%3Dbilling"
    answer = save(client, page, {"name": "billing-service", "expiry": "keep", "allowed_networks": ""})
    assert (answer.status_code, answer.headers.get("Location")) == (302, f"{LIST}?q=billing")


def test_a_bulk_revoke_leads_back_to_the_filtered_list(client: Client) -> None:
    key = make_key("billing-service").key
    here = f"{LIST}?q=billing"
    preview = client.post(here, {"action": "revoke_selected", "_selected_action": str(key.pk)})
    sent = {"ids": str(key.pk), "confirmed": "yes", "back": preview.context["back"]}
    result = client.post("/admin/hygiene/revoke/", sent)
    assert (preview.context["back"], result.context["back"]) == (here, here)
    assert f'href="{here}"' in result.content.decode()

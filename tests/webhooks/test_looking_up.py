"""An address is looked up while no transaction is open: on SQLite that one would keep everybody from writing."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from rest_framework.test import APIClient

from access.models import Member
from tests.fixtures import BrowserOf
from tests.pages import save
from tests.webhooks.makers import make_endpoint
from webhooks import addresses
from webhooks.addresses import Refused
from webhooks.models import WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1/webhook-endpoints/"
CONSOLE = "/admin/webhooks/webhookendpoint/"
URL = "https://9.9.9.9/hook"


class LookingUp:
    """Keeps, of each time that an address was looked up, whether a transaction was open."""

    def __init__(self) -> None:
        self.in_transaction: list[bool] = []
        self.refuses = False

    def check(self, url: str, **kwargs: Any) -> None:
        self.in_transaction.append(connection.in_atomic_block)
        if self.refuses:
            raise Refused("unresolvable", "hooks.example.com has no address.")


@pytest.fixture
def looking_up(monkeypatch: pytest.MonkeyPatch) -> LookingUp:
    found = LookingUp()
    monkeypatch.setattr(addresses, "check", found.check)
    return found


def test_by_the_api_with_an_idempotency_key_too(admin_api: APIClient, looking_up: LookingUp) -> None:
    made = admin_api.post(API, {"name": "a", "url": URL}, HTTP_IDEMPOTENCY_KEY="k")
    assert made.status_code == 201
    assert admin_api.patch(f"{API}{made.json()['id']}/", {"url": f"{URL}/2"}).status_code == 200
    assert looking_up.in_transaction == [False, False]


def test_by_the_forms_of_the_console(browser: BrowserOf, admin: Member, looking_up: LookingUp) -> None:
    client = browser(admin)
    sent = {"name": "a", "url": f" {URL} ", "description": ""}
    client.post(f"{CONSOLE}add/", {**sent, "form_token": uuid4()})
    endpoint = WebhookEndpoint.objects.get()
    page = f"{CONSOLE}{endpoint.pk}/change/"
    assert save(client, page, {**sent, "url": f"{URL}/2"}).status_code == 302
    assert save(client, page, {**sent, "url": f"{URL}/2", "description": "same address"}).status_code == 302
    assert looking_up.in_transaction == [False, False]
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.description) == (f"{URL}/2", "same address")


def test_who_may_not_make_endpoints_has_nothing_looked_up(
    browser: BrowserOf, auditor: Member, auditor_api: APIClient, looking_up: LookingUp
) -> None:
    endpoint = make_endpoint()
    looking_up.in_transaction.clear()
    sent = {"name": "a", "url": URL, "description": "", "form_token": uuid4()}
    for address in (f"{CONSOLE}add/", f"{CONSOLE}{endpoint.pk}/change/"):
        assert browser(auditor).post(address, sent).status_code in {403, 404}
    assert auditor_api.post(API, {"name": "a", "url": URL}, HTTP_IDEMPOTENCY_KEY="k").status_code == 403
    assert looking_up.in_transaction == []


def test_what_was_refused_is_said_at_the_field(
    browser: BrowserOf, admin: Member, admin_api: APIClient, looking_up: LookingUp
) -> None:
    looking_up.refuses = True
    for headers in ({}, {"HTTP_IDEMPOTENCY_KEY": "k"}):
        answer = admin_api.post(API, {"name": "a", "url": URL}, **headers)  # type: ignore[arg-type]  # headers
        assert answer.json()["fields"]["url"][0]["code"] == "unresolvable"
    page = browser(admin).post(f"{CONSOLE}add/", {"name": "a", "url": URL, "form_token": uuid4()})
    assert "hooks.example.com has no address" in page.content.decode()
    assert WebhookEndpoint.objects.count() == 0


def test_a_repeat_is_answered_as_before_though_the_name_has_gone(admin_api: APIClient, looking_up: LookingUp) -> None:
    body = {"name": "a", "url": URL}
    assert admin_api.post(API, body, HTTP_IDEMPOTENCY_KEY="k").status_code == 201
    looking_up.refuses = True
    again = admin_api.post(API, body, HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()["code"]) == (409, "already_processed")

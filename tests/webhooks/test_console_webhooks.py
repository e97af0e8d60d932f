"""Webhook endpoints and their deliveries in the console."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries
from standardwebhooks import Webhook

from access.models import Member
from audit.models import AuditEntry
from tests.factories import make_key
from tests.fixtures import BrowserOf
from tests.pages import column, confirmed, main_of, save, secret_of, text_of
from tests.webhooks.makers import make_delivery, make_endpoint
from tests.webhooks.receiver import Receiver, answering
from webhooks.endpoints import DISABLED_NOTE, IssuedSecret
from webhooks.models import Delivery, EndpointSecret, WebhookEndpoint

ENDPOINTS = "/admin/webhooks/webhookendpoint/"
DELIVERIES = "/admin/webhooks/delivery/"


def page_of(endpoint: WebhookEndpoint) -> str:
    return f"{ENDPOINTS}{endpoint.pk}/change/"


def particulars(**given: Any) -> dict[str, Any]:
    return {"name": "pager", "url": "https://8.8.8.8/hook", "description": "", "form_token": uuid4(), **given}


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.tasks.deliver.apply_async", lambda **_: None)


def test_a_new_endpoint_shows_its_secret_once_and_how_to_verify(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    response = client.post(f"{ENDPOINTS}add/", particulars(event_types=["gateway_key.revoked"]))
    value = secret_of(response)
    Webhook(value)
    assert value.startswith("whsec_")
    assert "standardwebhooks" in text_of(response)
    # It has to be read again in order to sign, so no page says that a fingerprint is all that is kept.
    assert "keeps it encrypted" in text_of(response)
    assert "fingerprint" not in text_of(response)
    assert "no-store" in response["Cache-Control"]
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.owner, endpoint.event_types) == (admin, ["gateway_key.revoked"])
    for page in (page_of(endpoint), ENDPOINTS):
        assert value not in client.get(page).content.decode()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://127.0.0.1/", "127.0.0.1 is not a public address"),
        ("http://8.8.8.8/", "Only https"),
        ("https://0x7f.1/", "Write an IPv4 address as four decimal numbers"),
    ],
)
def test_an_address_that_nothing_may_be_sent_to_is_said_at_the_field(
    browser: BrowserOf, admin: Member, url: str, words: str
) -> None:
    response = browser(admin).post(f"{ENDPOINTS}add/", particulars(url=url))
    assert words in main_of(response)
    assert WebhookEndpoint.objects.count() == 0


def test_an_edit_goes_through_the_verb(browser: BrowserOf, admin: Member) -> None:
    endpoint = make_endpoint()
    save(browser(admin), page_of(endpoint), particulars(name="new", event_types=["gateway_key.expired"]))
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.event_types) == ("new", ["gateway_key.expired"])
    entry = AuditEntry.objects.get(action="webhook_endpoint.edited")
    assert set(entry.after) == {"name", "url", "event_types"}
    assert entry.actor_id == str(admin.pk)


def test_a_test_shows_what_came_of_it(
    browser: BrowserOf, admin: Member, issued: IssuedSecret, receiver: Receiver
) -> None:
    client = browser(admin)
    dialog = f"{ENDPOINTS}{issued.endpoint.pk}/send_test/"
    assert client.post(dialog, confirmed()).headers["HX-Refresh"] == "true"
    assert "The test has arrived at receiver: 204 in" in main_of(client.get(page_of(issued.endpoint)))
    Webhook(issued.value).verify(receiver.taken[0][1], receiver.taken[0][0])
    receiver.manner = answering(500, b"come back later")
    assert "Answered 500, with “come back later”." in text_of(client.post(dialog, confirmed()))
    assert "Answered 500." in main_of(client.get(page_of(issued.endpoint)))
    assert not AuditEntry.objects.filter(action__endswith="refused").exists()


def test_a_secret_is_rotated_once_and_shown(browser: BrowserOf, admin: Member) -> None:
    endpoint = make_endpoint()
    client, sent = browser(admin), confirmed(overlap="3600")
    response = client.post(f"{ENDPOINTS}{endpoint.pk}/rotate_secret/", sent)
    assert secret_of(response).startswith("whsec_")
    assert "no-store" in response["Cache-Control"]
    assert "not shown twice" in text_of(client.post(f"{ENDPOINTS}{endpoint.pk}/rotate_secret/", sent))
    assert EndpointSecret.objects.count() == 2


def test_an_endpoint_is_disabled_and_enabled_and_sent_what_it_missed(browser: BrowserOf, admin: Member) -> None:
    endpoint = make_endpoint()
    make_key()
    client = browser(admin)
    client.post(f"{ENDPOINTS}{endpoint.pk}/disable/", confirmed(reason="moving"))
    assert column(client.get(ENDPOINTS), "state_label") == ["Disabled"]
    assert "moving" in main_of(client.get(page_of(endpoint)))
    assert Delivery.objects.get().state == "failed"
    client.post(f"{ENDPOINTS}{endpoint.pk}/enable/", confirmed())
    client.post(f"{ENDPOINTS}{endpoint.pk}/redeliver/", confirmed(since="86400"))
    assert Delivery.objects.get().state == "pending"
    assert column(client.get(ENDPOINTS), "state_label") == ["Active"]


def test_the_list_narrows_by_state(browser: BrowserOf, admin: Member) -> None:
    make_endpoint("on")
    off = make_endpoint("off")
    client = browser(admin)
    client.post(f"{ENDPOINTS}{off.pk}/disable/", confirmed())
    assert column(client.get(ENDPOINTS, {"state": "disabled"}), "name") == ["off"]
    assert column(client.get(ENDPOINTS, {"state": "active"}), "name") == ["on"]
    assert client.get(ENDPOINTS, {"state": "failing"}).status_code == 200


def test_a_delivery_shows_its_attempts_and_what_is_sent(browser: BrowserOf, admin: Member) -> None:
    delivery = make_delivery(make_key("prod").key)
    client = browser(admin)
    page = main_of(client.get(f"{DELIVERIES}{delivery.pk}/change/"))
    assert delivery.notice_id in page
    assert "gateway_key.created" in page
    assert "204 12 ms Arrived" in page
    listed = client.get(DELIVERIES)
    assert column(listed, "about") == ["prod"]
    assert column(listed, "last_attempt") == ["204 in 12 ms"]
    assert column(client.get(DELIVERIES, {"type": "gateway_key.revoked"}), "about") == []


def test_what_was_never_tried_says_why(browser: BrowserOf, admin: Member) -> None:
    delivery = make_delivery(make_key("prod").key)
    delivery.attempts.all().delete()
    client = browser(admin)
    client.post(f"{DELIVERIES}{delivery.pk}/send_again/", confirmed())
    assert column(client.get(DELIVERIES), "last_attempt") == ["none yet"]
    client.post(f"{ENDPOINTS}{delivery.endpoint_id}/disable/", confirmed(reason="moved"))
    assert column(client.get(DELIVERIES), "last_attempt") == [DISABLED_NOTE]


def test_one_delivery_is_sent_again(browser: BrowserOf, admin: Member) -> None:
    delivery = make_delivery(make_key().key)
    client = browser(admin)
    client.post(f"{DELIVERIES}{delivery.pk}/send_again/", confirmed())
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    assert "on its way already" in text_of(client.get(f"{DELIVERIES}{delivery.pk}/send_again/"))


@pytest.mark.parametrize("count", [2, 20])
def test_lists_ask_the_database_the_same_number_of_times(
    browser: BrowserOf, admin: Member, django_assert_num_queries: DjangoAssertNumQueries, count: int
) -> None:
    endpoint = make_endpoint()
    for number in range(count):
        make_delivery(make_key().key, endpoint)
        make_endpoint(f"endpoint {number}")
    client = browser(admin)
    # session, member, count, rows, secrets
    with django_assert_num_queries(5):
        client.get(ENDPOINTS)
    # session, member, endpoints to filter by, count, rows, attempts
    with django_assert_num_queries(6):
        client.get(DELIVERIES)

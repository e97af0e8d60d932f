"""Webhook endpoints over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from audit import clock
from audit.models import AuditEntry
from tests.factories import make_key
from tests.webhooks.makers import make_delivery, make_endpoint
from webhooks import signing
from webhooks.models import Delivery, EndpointSecret, WebhookEndpoint

pytestmark = pytest.mark.django_db
ENDPOINTS = "/api/v1/webhook-endpoints/"
URL = "https://8.8.8.8/hook"


def test_an_endpoint_is_made_and_its_secret_shown_once(admin_api: APIClient) -> None:
    body = {"name": "pager", "url": URL, "description": "d", "event_types": ["gateway_key.revoked"]}
    answer = admin_api.post(ENDPOINTS, body)
    made = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    assert {name: made[name] for name in body} == body
    assert made["owner"] == "ada.admin"
    secret = made["secret"]
    assert signing.open_sealed(EndpointSecret.objects.get().sealed) == secret
    assert secret not in EndpointSecret.objects.get().sealed
    shown = admin_api.get(f"{ENDPOINTS}{made['id']}/")
    assert "secret" not in shown.json()
    assert [item["hint"] for item in shown.json()["secrets"]] == [secret[:10] + "…"]
    assert secret not in str(list(AuditEntry.objects.values()))


def test_an_idempotent_creation_does_not_show_the_secret_again(admin_api: APIClient) -> None:
    for expected in (201, 409):
        answer = admin_api.post(ENDPOINTS, {"name": "a", "url": URL}, HTTP_IDEMPOTENCY_KEY="k")
        assert answer.status_code == expected
    assert answer.json()["code"] == "already_processed"
    assert WebhookEndpoint.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", [None, 1, "", "x" * 101, "taken"]),
        (
            "url",
            [
                *(None, 1, "", "x", "http://8.8.8.8/", "https://127.0.0.1/", "https://[::ffff:127.0.0.1]/"),
                *("https://169.254.169.254/", "https://localhost/", "https://8.8.8.8/" + "x" * 600, "https://a b/"),
                *("https://8.8.8.8/?key=kt_gk_" + "a" * 32, "https://8.8.8.8/\x07", ["https://8.8.8.8/"]),
            ],
        ),
        ("event_types", [None, "gateway_key.revoked", ["nothing"], [1], [None], ["webhook_endpoint.test"]]),
        ("description", [None, 1, "x" * 2_001]),
        ("secret", ["x"]),
    ],
)
def test_what_does_not_fit_is_refused_at_its_field(admin_api: APIClient, field: str, values: list[Any]) -> None:
    endpoint = make_endpoint("taken")
    other = make_endpoint("other")
    for value in values:
        answers = [
            admin_api.post(ENDPOINTS, {"name": "n", "url": URL, field: value}),
            admin_api.patch(f"{ENDPOINTS}{other.pk}/", {field: value}),
        ]
        for answer in answers:
            assert answer.status_code == 400, (value, answer.content)
            assert {name.split(".")[0] for name in answer.json()["fields"]} == {field}
    assert WebhookEndpoint.objects.count() == 2
    assert endpoint.deliveries.count() == 0


def test_an_endpoint_is_edited_disabled_and_enabled(admin_api: APIClient) -> None:
    endpoint = make_endpoint()
    place = f"{ENDPOINTS}{endpoint.pk}/"
    edited = admin_api.patch(
        place, {"name": "new", "event_types": ["gateway_key.revoked", "gateway_key.created"]}
    ).json()
    assert edited["event_types"] == ["gateway_key.created", "gateway_key.revoked"]
    off = admin_api.post(f"{place}disable/", {"reason": "moving"}).json()
    assert (off["disabled_at"] is not None, off["disabled_reason"]) == (True, "moving")
    assert admin_api.post(f"{place}disable/").json()["code"] == "already_disabled"
    assert admin_api.post(f"{place}test/").json()["code"] == "endpoint_disabled"
    on = admin_api.post(f"{place}enable/").json()
    assert (on["disabled_at"], on["disabled_reason"]) == (None, "")
    actions = AuditEntry.objects.filter(object_type="webhook_endpoint").order_by("pk").values_list("action", flat=True)
    assert [action.partition(".")[2] for action in actions] == [
        "created",
        "edited",
        "disabled",
        "disable_refused",
        "test_refused",
        "enabled",
    ]


def test_a_secret_is_rotated_with_an_overlap(admin_api: APIClient) -> None:
    path = f"{ENDPOINTS}{make_endpoint().pk}/rotate-secret/"
    answer = admin_api.post(path, {"overlap_seconds": 60})
    assert (answer.status_code, answer["Cache-Control"], len(answer.json()["secrets"])) == (200, "no-store", 2)
    assert answer.json()["secret"].startswith("whsec_")
    assert len(admin_api.post(path, {"overlap_seconds": 0}).json()["secrets"]) == 1
    assert len(admin_api.post(path).json()["secrets"]) == 2
    for wrong in (-1, 10**30, 30 * 24 * 3600 + 1, "5", None, 1.5):
        assert list(admin_api.post(path, {"overlap_seconds": wrong}).json()["fields"]) == ["overlap_seconds"]


def test_a_test_is_queued_for_the_one_endpoint(admin_api: APIClient) -> None:
    endpoint, _ = make_endpoint("one", event_types=["gateway_key.revoked"]), make_endpoint("other")
    answer = admin_api.post(f"{ENDPOINTS}{endpoint.pk}/test/")
    assert answer.status_code == 202
    assert (answer.json()["type"], answer.json()["state"]) == ("webhook_endpoint.test", "pending")
    assert answer.json()["payload"]["data"]["asked_by"] == "ada.admin"
    assert Delivery.objects.get().endpoint == endpoint


def test_deliveries_are_listed_with_their_attempts_and_sent_again(admin_api: APIClient) -> None:
    endpoint = make_endpoint()
    delivery = make_delivery(make_key().key, endpoint)
    place = f"{ENDPOINTS}{endpoint.pk}/deliveries/"
    shown = admin_api.get(place, {"state": "delivered", "type": "gateway_key.created"}).json()["results"]
    assert [item["id"] for item in shown] == [str(delivery.pk)]
    assert shown[0]["webhook_id"] == delivery.notice_id
    assert [(item["status"], item["error"]) for item in shown[0]["attempts"]] == [(204, "")]
    assert admin_api.get(place, {"state": "failed"}).json()["count"] == 0
    other = make_endpoint("other")
    assert admin_api.get(f"{ENDPOINTS}{other.pk}/deliveries/{delivery.pk}/").status_code == 404
    again = admin_api.post(f"{place}{delivery.pk}/redeliver/")
    assert (again.status_code, again.json()["state"], again.json()["webhook_id"]) == (
        202,
        "pending",
        delivery.notice_id,
    )


def test_what_failed_since_a_time_is_sent_again(admin_api: APIClient) -> None:
    endpoint = make_endpoint()
    for _ in range(2):
        delivery = make_delivery(make_key().key, endpoint)
        Delivery.objects.filter(pk=delivery.pk).update(state="failed")
    Delivery.objects.filter(pk=delivery.pk).update(created_at=clock.now() - timedelta(days=2))
    path = f"{ENDPOINTS}{endpoint.pk}/redeliver/"
    since = (clock.now() - timedelta(days=1)).isoformat()
    assert admin_api.post(path, {"since": since}).json() == {"queued": 1}
    assert admin_api.post(path).json() == {"queued": 1}
    assert admin_api.post(path).json() == {"queued": 0}
    assert list(admin_api.post(path, {"since": "yesterday"}).json()["fields"]) == ["since"]


def test_of_an_endpoint_that_is_not_there_nothing_is_said(admin_api: APIClient) -> None:
    nobody = f"{ENDPOINTS}{make_key().key.pk}/"
    assert admin_api.get(nobody).status_code == 404
    assert admin_api.get(f"{nobody}deliveries/").status_code == 404
    assert admin_api.get(f"{ENDPOINTS}{'0' * 33}/deliveries/").status_code == 404


def test_pages_take_the_same_queries_however_much_is_on_them(
    admin_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    endpoint = make_endpoint()
    admin_api.get(ENDPOINTS)
    for number in range(2):
        make_endpoint(f"endpoint {number}")
        make_delivery(make_key().key, endpoint)
        with django_assert_num_queries(4):
            admin_api.get(ENDPOINTS, {"search": "e", "ordering": "-name"})
        with django_assert_num_queries(5):
            admin_api.get(f"{ENDPOINTS}{endpoint.pk}/deliveries/")

"""Whose is this value? Asked through the API, where it goes one way only."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from access.models import IdempotencyRecord
from audit.models import AuditEntry
from tests.factories import make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
FIND = "/api/v1/gateway-keys/find/"


def test_a_value_in_a_line_of_a_log_is_found_and_not_told_again(
    admin_api: APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    issued = make_key("billing")
    with caplog.at_level("DEBUG"):
        answer = admin_api.post(
            FIND, {"value": f"GET / Authorization: Bearer {issued.value}"}, HTTP_IDEMPOTENCY_KEY="k"
        )
    found = answer.json()
    assert (answer.status_code, answer["Cache-Control"], found["verdict"]) == (200, "no-store", "found")
    assert [(v["key_id"], v["number"], v["state"]) for v in found["versions"]] == [(str(issued.key.pk), 1, "current")]
    secret = issued.value[len("kt_gk_") + 4 :]
    kept = [answer.content.decode(), caplog.text, str(list(AuditEntry.objects.values()))]
    assert not any(secret in text for text in kept)
    assert not IdempotencyRecord.objects.exists()


def test_a_gateways_token_is_found_too(admin_api: APIClient) -> None:
    issued = make_gateway("edge")
    found = admin_api.post(FIND, {"value": issued.value}).json()
    assert [gateway["name"] for gateway in found["gateways"]] == ["edge"]


def test_what_the_caller_does_not_see_is_unknown_like_what_nobody_has(api: ApiOf) -> None:
    hidden = make_key(consumer_group=make_group(managers=[make_member("manager")]))
    found = api(make_member("manager")).post(FIND, {"value": hidden.value}).json()
    assert (found["verdict"], found["versions"]) == ("unknown", [])


@pytest.mark.parametrize(
    ("value", "verdict"), [("nothing", "nothing"), ("kt_gk_short", "malformed"), ("kt_gk_" + "a" * 32, "bad_checksum")]
)
def test_what_is_no_value_is_told_so(value: str, verdict: str, auditor_api: APIClient) -> None:
    assert auditor_api.post(FIND, {"value": value}).json()["verdict"] == verdict


@pytest.mark.parametrize("body", [{}, {"value": ""}, {"value": 5}, {"value": "x" * 10_001}])
def test_what_is_no_text_is_refused_at_the_field(body: dict[str, object], auditor_api: APIClient) -> None:
    refused = auditor_api.post(FIND, body)
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["value"])

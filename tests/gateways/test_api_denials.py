"""Why a request was refused, over the API."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from access.models import Member
from keys import lifecycle
from tests.factories import TESTS, make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf
from tests.usage.test_console import make_event

pytestmark = pytest.mark.django_db
DENIALS = "/api/v1/denials/"


def test_a_refusal_is_explained_by_its_decision_id(auditor_api: APIClient) -> None:
    issued = make_key("billing", consumer_group=make_group("payments"))
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk, reason="leaked")
    make_event(make_gateway("edge").gateway, issued, reason="key_revoked", decision_id="d1", stated_group="payments")
    answer = auditor_api.get(f"{DENIALS}d1/")
    told = answer.json()
    assert answer.status_code == 200
    assert (told["event"]["key_name"], told["event"]["reason"], told["because"]) == (
        *("billing", "key_revoked"),
        "The key is revoked",
    )
    results = {check["code"]: check["result"] for check in told["checks"]}
    assert (results["key_unknown"], results["key_revoked"], results["group_mismatch"]) == (
        *("passed", "failed"),
        "not_asked",
    )
    assert any("leaked" in check["detail"] for check in told["checks"])
    assert told["remedies"]
    assert told["now"]["allowed"] is False
    assert issued.value not in answer.content.decode()


@pytest.mark.parametrize("decision_id", ["nothing", "served", "x" * 64, "x" * 65, "%00", "a%2Fb", "..", "", "'"])
def test_of_what_is_no_denial_nothing_is_said(decision_id: str, admin_api: APIClient) -> None:
    make_event(make_gateway().gateway, make_key(), decision_id="served")
    assert admin_api.get(f"{DENIALS}{decision_id}/").status_code == 404


def test_who_does_not_see_the_key_sees_no_denial_of_it(api: ApiOf, manager: Member, admin: Member) -> None:
    gateway = make_gateway().gateway
    groups = make_group("mine", managers=[manager]), make_group("foreign", managers=[make_member("manager")])
    for group in groups:
        make_event(gateway, make_key(consumer_group=group), reason="key_disabled", decision_id=group.slug)
    make_event(gateway, None, reason="key_unknown", decision_id="of-nobody")
    limited = APIClient(HTTP_AUTHORIZATION=f"Bearer {make_access_key(admin, consumer_groups=['mine']).value}")
    for client in (limited, api(manager)):
        answers = {slug: client.get(f"{DENIALS}{slug}/").status_code for slug in ("mine", "foreign", "of-nobody")}
        assert answers == {"mine": 200, "foreign": 404, "of-nobody": 404}

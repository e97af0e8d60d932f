"""The doors of a policy: its page, the form of a group, and the API show what a change would break before it does."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from tests.factories import TESTS, make_group, make_key
from tests.fixtures import BrowserOf
from tests.keys.conftest import page_of, text_of

pytestmark = pytest.mark.django_db
POLICY = "/admin/policy/"
API = "/api/v1/policy/"


def rules(**given: Any) -> dict[str, Any]:
    empty = ("default_lifetime_days", "max_lifetime_days", "max_grace_seconds", "idle_days", "allowed_networks")
    return {**dict.fromkeys(empty, ""), **given}


def of_installation() -> tuple[str, dict[str, Any], GatewayKey]:
    return POLICY, rules(max_lifetime_days="30"), make_key("for-ever", expires_at=None).key


def of_group() -> tuple[str, dict[str, Any], GatewayKey]:
    group = make_group("payments")
    sent = rules(max_lifetime_days="30", name="payments", description="")
    key = make_key("for-ever", consumer_group=group, expires_at=None).key
    return f"/admin/keys/consumergroup/{group.pk}/change/", sent, key


@pytest.mark.parametrize("whose", [of_installation, of_group])
@pytest.mark.parametrize("choice", ["leave", "align"])
def test_a_form_shows_the_keys_first_and_does_what_is_chosen(
    whose: Any, choice: str, browser: BrowserOf, admin: Member
) -> None:
    address, sent, key = whose()
    client = browser(admin)
    shown = client.post(address, sent)
    assert shown.status_code == 200
    assert "1 key would break this policy" in text_of(shown)
    assert "for-ever" in text_of(shown)
    assert "It never expires." in text_of(shown)
    assert not AuditEntry.objects.filter(action__in=["policy.edited", "consumer_group.edited"]).exists()
    seen = re.search(r'name="shown" value="([^"]*)"', shown.content.decode())
    assert seen
    sent |= {"existing_keys": choice, "shown": unescape(seen[1])}
    # With other rules than those it was shown for, it is shown again.
    again = client.post(address, {**sent, "max_lifetime_days": "20"})
    assert "1 key would break this policy" in text_of(again)
    assert client.post(address, sent).status_code == 302
    key.refresh_from_db()
    assert (key.expires_at is None) is (choice == "leave")
    assert client.get("/admin/hygiene/").content.decode().count('id="breaches_policy"') == (choice == "leave")
    page = text_of(client.get(page_of(key)))
    assert ("Breaks its policy: It never expires." in page) is (choice == "leave")


def test_who_is_no_admin_reads_the_policy_and_cannot_send_it(browser: BrowserOf, auditor: Member) -> None:
    InstallationPolicy.objects.update(max_lifetime_days=30)
    page = browser(auditor).get(POLICY)
    assert "A key lives for at most 30 days" in text_of(page)
    assert 'name="max_lifetime_days"' not in page.content.decode()
    assert browser(auditor).post(POLICY, rules()).status_code == 403
    assert AuditEntry.objects.filter(action="policy.edit_refused").count() == 1


def test_the_form_says_what_holds_for_every_key(browser: BrowserOf, admin: Member) -> None:
    InstallationPolicy.objects.update(max_lifetime_days=30)
    page = browser(admin).get("/admin/keys/gatewaykey/add/").content.decode()
    assert 'data-max-days="30"' in page


def test_the_api_previews_refuses_leaves_and_aligns(admin_api: APIClient) -> None:
    key = make_key("for-ever", expires_at=None).key
    previewed = admin_api.post(f"{API}preview/", {"max_lifetime_days": 30}).json()
    assert (previewed["count"], previewed["kinds"]) == (1, {"expiry_missing": 1})
    (one,) = previewed["keys"]
    assert (one["id"], one["consumer_group"], one["breaks"][0]["code"]) == (str(key.pk), None, "expiry_missing")
    refused = admin_api.patch(API, {"max_lifetime_days": 30})
    assert refused.status_code == 409
    assert (refused.json()["code"], refused.json()["count"], refused.json()["ids"]) == (
        *("policy_breaks_keys", 1),
        [str(key.pk)],
    )
    assert admin_api.get(API).json()["max_lifetime_days"] is None
    assert admin_api.patch(API, {"max_lifetime_days": 30, "existing_keys": "perhaps"}).status_code == 400
    aligned = admin_api.patch(API, {"max_lifetime_days": 30, "existing_keys": "align"})
    assert aligned.json()["aligned"] == [{"id": str(key.pk), "error": None}]
    assert admin_api.get(API).json()["max_lifetime_days"] == 30
    assert admin_api.patch(API, {"max_lifetime_days": 60}).status_code == 200


def test_a_groups_policy_is_previewed_by_the_api_in_the_same_words(admin_api: APIClient) -> None:
    group = make_group("payments")
    key = make_key(consumer_group=group, allowed_networks=["192.0.2.0/24"]).key
    address = "/api/v1/consumer-groups/payments/"
    body = {"allowed_networks": ["10.0.0.0/8"]}
    previewed = admin_api.post(f"{address}policy-preview/", body).json()
    assert previewed["kinds"] == {"network_outside": 1}
    assert admin_api.patch(address, body).json()["code"] == "policy_breaks_keys"
    answer = admin_api.patch(address, {**body, "existing_keys": "align"}).json()
    (result,) = answer["aligned"]
    assert (result["id"], result["error"]["code"]) == (str(key.pk), "validation_error")
    assert ConsumerGroup.objects.get().allowed_networks == ["10.0.0.0/8"]


def test_enabling_what_breaks_policy_is_a_conflict_with_its_code(admin_api: APIClient) -> None:
    key = make_key(expires_at=None).key
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    assert admin_api.patch(API, {"expiry_required": True, "existing_keys": "leave"}).status_code == 200
    assert admin_api.post(f"/api/v1/gateway-keys/{key.pk}/enable/").json()["code"] == "policy_breached"

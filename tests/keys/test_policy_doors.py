"""The doors of a policy: its page, the form of a group, and the API show what a change would break before it does."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from tests.factories import TESTS, actor_of, make_group, make_key
from tests.fixtures import BrowserOf
from tests.keys.conftest import page_of, text_of
from tests.pages import known_state, main_of, save

pytestmark = pytest.mark.django_db
POLICY = "/admin/policy/"
ADD = "/admin/keys/gatewaykey/add/"
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
    sent |= known_state(client, address)
    shown = client.post(address, sent)
    assert shown.status_code == 200
    assert "1 existing key would be affected" in text_of(shown)
    assert "for-ever" in text_of(shown)
    assert "It never expires." in text_of(shown)
    assert not AuditEntry.objects.filter(action__in=["policy.edited", "consumer_group.edited"]).exists()
    seen = re.search(r'name="shown" value="([^"]*)"', shown.content.decode())
    assert seen
    sent |= {"existing_keys": choice, "shown": unescape(seen[1])}
    # With other rules than those it was shown for, it is shown again.
    again = client.post(address, {**sent, "max_lifetime_days": "20"})
    assert "1 existing key would be affected" in text_of(again)
    assert save(client, address, sent).status_code == 302
    key.refresh_from_db()
    assert (key.expires_at is None) is (choice == "leave")
    assert client.get("/admin/hygiene/").content.decode().count('id="breaches_policy"') == (choice == "leave")
    page = text_of(client.get(page_of(key)))
    assert ("Breaks its policy: It never expires." in page) is (choice == "leave")


def test_what_two_policies_leave_is_said_as_what_lies_in_both(browser: BrowserOf, admin: Member) -> None:
    for name, networks in (("inside", ["10.1.0.0/16", "192.0.2.0/24"]), ("outside", ["192.0.2.0/24"])):
        make_key(name, consumer_group=make_group(name, allowed_networks=networks))
    make_key("ungrouped")
    shown = text_of(browser(admin).post(POLICY, rules(allowed_networks="10.0.0.0/8")))
    assert "accept it only from addresses both in 10.1.0.0/16, 192.0.2.0/24 and in 10.0.0.0/8 from then on" in shown
    assert "accept it from nowhere any more: no address lies both in 192.0.2.0/24 and in 10.0.0.0/8" in shown
    assert "accept it only from addresses in 10.0.0.0/8 from then on" in shown


def test_a_grace_is_told_in_words_and_a_key_by_its_name(browser: BrowserOf, admin: Member) -> None:
    key = make_key("of-nowhere", allowed_networks=["192.0.2.0/24"]).key
    lifecycle.rotate(actor=actor_of(admin), key_id=key.pk, grace=timedelta(days=1))
    client = browser(admin)
    sent = rules(allowed_networks="10.0.0.0/8", max_grace_seconds="3600") | known_state(client, POLICY)
    shown = client.post(POLICY, sent)
    assert "allows at most 1 hour from now" in text_of(shown)
    seen = re.search(r'name="shown" value="([^"]*)"', shown.content.decode())
    assert seen
    done = client.post(POLICY, {**sent, "existing_keys": "align", "shown": unescape(seen[1])}, follow=True)
    assert "of-nowhere was left as it is: None of its networks" in main_of(done)


def test_a_new_value_names_every_network_that_holds(browser: BrowserOf, admin: Member) -> None:
    InstallationPolicy.objects.update(allowed_networks=["10.0.0.0/8"])
    make_group("payments", allowed_networks=["10.1.0.0/16"])
    client = browser(admin)
    sent = {"name": "billing", "expiry": "30", "form_token": str(uuid4())}
    assert "only within what the installation's policy allows: 10.0.0.0/8." in text_of(client.post(ADD, sent))
    group = ConsumerGroup.objects.get()
    sent |= {"form_token": str(uuid4()), "consumer_group": str(group.pk), "allowed_networks": "10.1.2.0/24"}
    shown = text_of(client.post(ADD, sent))
    assert "only from 10.1.2.0/24, and within what the policy of payments allows: 10.1.0.0/16," in shown
    assert "and within what the installation's policy allows: 10.0.0.0/8." in shown


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

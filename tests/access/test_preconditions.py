"""`ETag`, `If-Match` and `If-None-Match`, as a caller of the API sees them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from access.preconditions import Precondition, PreconditionFailed
from audit import clock
from audit.models import AuditEntry
from gateways import registry
from keys import groups, lifecycle
from keys.models import GatewayKey
from keys.snapshots import state_tag
from keys.sweeps import close_due_grace
from tests.factories import TESTS, make_gateway, make_group, make_key, make_member
from tests.races import at_once
from tests.webhooks.makers import make_endpoint
from webhooks.endpoints import disable_endpoint
from webhooks.models import WebhookEndpoint


def resources() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the address of one of each that has a tag, and a change of it."""
    return {
        "key": (f"/api/v1/gateway-keys/{make_key().key.pk}/", {"description": "other"}),
        "group": (f"/api/v1/consumer-groups/{make_group().slug}/", {"description": "other"}),
        "gateway": (f"/api/v1/gateways/{make_gateway().gateway.pk}/", {"name": "other"}),
        "member": (f"/api/v1/members/{make_member('auditor').pk}/", {"name": "other"}),
        "endpoint": (f"/api/v1/webhook-endpoints/{make_endpoint().pk}/", {"description": "other"}),
        "policy": ("/api/v1/policy/", {"idle_days": 300}),
    }


# What each is changed to in the end.
MINE = {"policy": {"idle_days": 200}}
EACH = pytest.mark.parametrize("kind", ["key", "group", "gateway", "member", "endpoint", "policy"])


@EACH
def test_what_has_not_changed_is_not_sent_again(kind: str, admin_api: APIClient) -> None:
    address, changed = resources()[kind]
    tag = admin_api.get(address)["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = admin_api.get(address, HTTP_IF_NONE_MATCH=known)
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
    assert admin_api.patch(address, changed)["ETag"] != tag
    assert admin_api.get(address, HTTP_IF_NONE_MATCH=tag).status_code == 200


@EACH
def test_of_two_editors_the_slower_is_refused_with_the_tag_of_now(kind: str, admin_api: APIClient) -> None:
    address, changed = resources()[kind]
    tag = admin_api.get(address)["ETag"]
    first = admin_api.patch(address, changed, HTTP_IF_MATCH=tag)
    assert first.status_code == 200
    entries = AuditEntry.objects.count()
    mine = MINE.get(kind, {"name": "mine"})
    second = admin_api.patch(address, mine, HTTP_IF_MATCH=tag)
    body = second.json()
    assert (second.status_code, body["code"], body["fields"]) == (412, "precondition_failed", {})
    assert second["ETag"] == body["etag"] == first["ETag"] == admin_api.get(address)["ETag"]
    assert AuditEntry.objects.count() == entries
    assert admin_api.patch(address, mine, HTTP_IF_MATCH=body["etag"]).status_code == 200


@pytest.mark.parametrize("kind", ["key", "group", "gateway", "endpoint"])
def test_a_made_thing_comes_with_its_tag(kind: str, admin_api: APIClient) -> None:
    body = {"key": {"name": "a"}, "group": {"name": "a", "slug": "a"}, "gateway": {"name": "a"}}.get(kind)
    body = body or {"name": "a", "url": "https://8.8.8.8/"}
    paths = {"key": "gateway-keys", "group": "consumer-groups", "gateway": "gateways", "endpoint": "webhook-endpoints"}
    address = paths[kind]
    made = admin_api.post(f"/api/v1/{address}/", body)
    shown = admin_api.get(f"/api/v1/{address}/{made.json()['slug' if kind == 'group' else 'id']}/")
    assert (made.status_code, made["ETag"]) == (201, shown["ETag"])


@pytest.mark.parametrize("verb", ["rotate", "end-grace", "extend-grace", "disable", "enable", "revoke"])
def test_a_verb_is_held_to_what_its_caller_read(verb: str, admin_api: APIClient) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    if verb == "enable":
        lifecycle.disable(actor=TESTS, key_id=key.pk)
    address = f"/api/v1/gateway-keys/{key.pk}/"
    body = {"grace_seconds": 7200} if verb == "extend-grace" else {}
    old = admin_api.get(address)["ETag"]
    admin_api.patch(address, {"description": "other"})
    assert admin_api.post(f"{address}{verb}/", body, HTTP_IF_MATCH=old).status_code == 412
    now = admin_api.get(address)["ETag"]
    done = admin_api.post(f"{address}{verb}/", body, HTTP_IF_MATCH=now)
    assert (done.status_code, done["ETag"] == now) == (200, False)


def test_a_gateways_token_is_rotated_only_in_the_state_that_was_read(admin_api: APIClient) -> None:
    address = f"/api/v1/gateways/{make_gateway().gateway.pk}/"
    tag = admin_api.get(address)["ETag"]
    assert admin_api.post(f"{address}rotate-token/", HTTP_IF_MATCH=tag).status_code == 200
    assert admin_api.post(f"{address}rotate-token/", HTTP_IF_MATCH=tag).status_code == 412


@pytest.mark.parametrize("verb", ["rotate-secret", "disable", "enable"])
def test_a_verb_about_an_endpoint_is_held_to_what_its_caller_read(verb: str, admin_api: APIClient) -> None:
    endpoint = make_endpoint()
    if verb == "enable":
        disable_endpoint(actor=TESTS, endpoint_id=endpoint.pk)
    address = f"/api/v1/webhook-endpoints/{endpoint.pk}/"
    old = admin_api.get(address)["ETag"]
    admin_api.patch(address, {"description": "other"})
    assert admin_api.post(f"{address}{verb}/", HTTP_IF_MATCH=old).status_code == 412
    now = admin_api.get(address)["ETag"]
    done = admin_api.post(f"{address}{verb}/", HTTP_IF_MATCH=now)
    assert (done.status_code, done["ETag"] == now) == (200, False)
    assert done["ETag"] == admin_api.get(address)["ETag"]


def test_what_deliveries_came_to_is_no_change_of_their_endpoint(admin_api: APIClient) -> None:
    endpoint = make_endpoint()
    address = f"/api/v1/webhook-endpoints/{endpoint.pk}/"
    tag = admin_api.get(address)["ETag"]
    WebhookEndpoint.objects.update(failing_since=clock.now(), delivered_at=clock.now())
    assert admin_api.get(address)["ETag"] == tag


def test_what_time_alone_has_made_is_told_to_readers_and_stops_no_editor(admin_api: APIClient) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    address = f"/api/v1/gateway-keys/{key.pk}/"
    tag = admin_api.get(address)["ETag"]
    with time_machine.travel(clock.now() + timedelta(hours=2)):
        assert admin_api.get(address, HTTP_IF_NONE_MATCH=tag).json()["status"] == "active"
        over = admin_api.get(address)["ETag"]
        assert close_due_grace() == 1
        # What a job tidies, time had decided before.
        assert admin_api.get(address)["ETag"] == over
        assert admin_api.patch(address, {"name": "b"}, HTTP_IF_MATCH=tag).status_code == 200


@pytest.mark.parametrize("suffix", ["-gzip", "-br", ""])
def test_a_tag_that_a_proxy_has_marked_is_the_same_state(suffix: str, admin_api: APIClient) -> None:
    group = make_group()
    address = f"/api/v1/consumer-groups/{group.slug}/"
    tag = admin_api.get(address)["ETag"].strip('"')
    assert admin_api.patch(address, {"name": "b"}, HTTP_IF_MATCH=f'W/"{tag}{suffix}"').status_code == 200


@pytest.mark.parametrize("header", ["nonsense", '"a" "b"', '"a",,"b"', "", "W/abc", '"' * 3, '"a"' + ', "b"' * 1_000])
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_what_is_no_list_of_tags_is_refused_by_its_name(name: str, header: str, admin_api: APIClient) -> None:
    address = f"/api/v1/gateway-keys/{make_key().key.pk}/"
    answer = (
        admin_api.patch(address, {}, HTTP_IF_MATCH=header)
        if name == "If-Match"
        else admin_api.get(address, HTTP_IF_NONE_MATCH=header)
    )
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [name])


def test_a_tag_tells_nothing_of_what_it_is_made_of(admin_api: APIClient, settings: Any) -> None:
    address = f"/api/v1/consumer-groups/{make_group().slug}/"
    tag = admin_api.get(address)["ETag"]
    settings.SECRET_KEY = "another installation"  # of this test alone
    assert admin_api.get(address)["ETag"] != tag


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", range(3))
@EACH
def test_of_editors_who_meet_one_alone_is_let_through(kind: str, attempt: int) -> None:
    """The state is compared under the lock of the row: nobody gets in between."""
    key, group, gateway = make_key().key, make_group(), make_gateway().gateway
    with_lock = Precondition(
        frozenset({state_tag(GatewayKey.objects.get(pk=key.pk)), groups.state_tag(group), registry.state_tag(gateway)})
    )

    def edit(name: str) -> str:
        changed = {"name": name}
        try:
            if kind == "key":
                lifecycle.edit(actor=TESTS, key_id=key.pk, changed=changed, expected=with_lock)
            elif kind == "group":
                groups.edit_group(actor=TESTS, group_id=group.pk, changed=changed, expected=with_lock)
            else:
                registry.edit_gateway(actor=TESTS, gateway_id=gateway.pk, changed=changed, expected=with_lock)
        except PreconditionFailed:
            return "overtaken"
        return "saved"

    results = at_once(*[partial(edit, f"editor {number}") for number in range(6)])
    assert sorted(map(str, results)) == ["overtaken"] * 5 + ["saved"]

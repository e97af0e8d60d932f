"""Bulk calls on trial: what would become of each key, and nothing of it done."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from access.models import IdempotencyRecord, Member
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import GatewayKey, Invalidation, KeyVersion
from tests.factories import TESTS, make_group, make_key, make_member
from tests.fixtures import ApiOf
from tests.webhooks.makers import make_endpoint
from webhooks.models import Notice

KEYS = "/api/v1/gateway-keys/"
CALLS: dict[str, dict[str, Any]] = {
    "bulk-revoke": {"reason": "leaked"},
    "bulk-rotate": {"grace_seconds": 60},
    "bulk-edit": {"changes": {"description": "other"}},
}


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.tasks.deliver.apply_async", lambda **_: None)


def state() -> list[Any]:
    models = (GatewayKey, KeyVersion, AuditEntry, Notice, Invalidation)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("headers", [{}, {"HTTP_IDEMPOTENCY_KEY": "k"}], ids=["plain", "once"])
def test_it_tells_what_would_become_of_each_key_and_does_nothing(
    call: str, headers: dict[str, str], api: ApiOf, manager: Member
) -> None:
    make_endpoint()
    mine = make_group(managers=[manager])
    free, unscoped = make_key(consumer_group=mine).key, make_key().key
    foreign = make_key(consumer_group=make_group(managers=[make_member("manager")])).key
    gone = make_key(consumer_group=mine).key
    lifecycle.revoke(actor=TESTS, key_id=gone.pk)
    body = {"ids": [str(key.pk) for key in (free, unscoped, foreign, gone)], **CALLS[call]}
    client, before = api(manager), state()
    tried = client.post(f"{KEYS}{call}/", {**body, "dry_run": True}, **headers)  # type: ignore[arg-type]  # headers
    assert tried.status_code == 200
    assert state() == before
    assert not IdempotencyRecord.objects.exists()
    told = [(one["outcome"], (one["error"] or {}).get("code")) for one in tried.json()["results"]]
    assert told[:3] == [("not_done", None), ("refused", "permission_denied"), ("refused", "not_found")]
    assert "kt_gk_" not in str([one.get("value") for one in tried.json()["results"]])
    # It is what really happens, and the same key for idempotency is still free for it.
    done = client.post(f"{KEYS}{call}/", body, **headers)  # type: ignore[arg-type]  # headers
    assert done.status_code == 200
    really = [
        (one["outcome"].replace("done", "not_done"), (one["error"] or {}).get("code")) for one in done.json()["results"]
    ]
    assert really == told


def test_it_names_what_would_change(admin_api: APIClient) -> None:
    group, key = make_group("payments"), make_key("a").key
    body = {"ids": [str(key.pk)], "changes": {"consumer_group": group.slug, "name": "b"}, "dry_run": True}
    (one,) = admin_api.post(f"{KEYS}bulk-edit/", body).json()["results"]
    assert (one["status"], one["changes"]["before"]["name"], one["changes"]["after"]["name"]) == ("active", "a", "b")
    assert one["changes"]["after"]["consumer_group"] == "payments"
    (one,) = admin_api.post(f"{KEYS}bulk-rotate/", {"ids": [str(key.pk)], "dry_run": True}).json()["results"]
    assert (one["version"], one["value"], one["changes"]["after"]["hint"]) == (None, None, None)
    assert one["changes"]["after"]["grace_until"]
    key.refresh_from_db()
    assert (key.name, key.consumer_group, key.versions.count()) == ("a", None, 1)


def test_who_may_not_do_it_may_not_try_it(auditor_api: APIClient) -> None:
    body = {"ids": [str(make_key().key.pk)], "dry_run": True}
    assert auditor_api.post(f"{KEYS}bulk-revoke/", body).status_code == 403

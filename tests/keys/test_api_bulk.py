"""Many keys in one call: a result for each, and all or nothing where that is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from access import tokens
from access.models import IdempotencyRecord, Member
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import GatewayKey, KeyVersion
from tests.factories import TESTS, make_group, make_key, make_member
from tests.fixtures import ApiOf

KEYS = "/api/v1/gateway-keys/"


def told(answer: Any) -> list[tuple[str, str | None, str | None]]:
    """Return of each result what became of it, the key's status, and the code of the error."""
    return [(r["outcome"], r["status"], (r["error"] or {}).get("code")) for r in answer.json()["results"]]


def ids_of(*keys: GatewayKey) -> list[str]:
    return [str(key.pk) for key in keys]


@pytest.fixture
def four(manager: Member) -> list[GatewayKey]:
    """One that the Manager manages, one they only see, one they do not see, and one of theirs that is disabled."""
    mine = make_group("mine", managers=[manager])
    hidden = make_group("foreign", managers=[make_member("manager")])
    keys = [make_key(consumer_group=group).key for group in (mine, None, hidden, mine)]
    lifecycle.disable(actor=TESTS, key_id=keys[3].pk)
    return keys


def test_many_are_rotated_and_each_value_is_shown_once(four: list[GatewayKey], api: ApiOf, manager: Member) -> None:
    answer = api(manager).post(f"{KEYS}bulk-rotate/", {"ids": [*ids_of(*four), str(four[0].pk)], "grace_seconds": 60})
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert told(answer) == [
        ("done", "rotating", None),
        ("refused", "active", "permission_denied"),
        ("refused", None, "not_found"),
        ("refused", "disabled", "key_disabled"),
    ]
    results = answer.json()["results"]
    assert [(result["version"], result["value"] is None) for result in results] == [(2, False), *[(None, True)] * 3]
    current = KeyVersion.objects.get(key=four[0], valid_until__isnull=True)
    assert bytes(current.digest) == tokens.digest(results[0]["value"])
    refused = AuditEntry.objects.filter(action="gateway_key.rotate_refused").values_list("object_id", flat=True)
    assert sorted(refused) == sorted(ids_of(four[1], four[3]))


def test_rotated_again_with_the_same_idempotency_key_no_value_is_shown_and_none_made(admin_api: APIClient) -> None:
    keys = [make_key().key, make_key().key]
    sent = {"ids": ids_of(*keys)}
    first = admin_api.post(f"{KEYS}bulk-rotate/", sent, HTTP_IDEMPOTENCY_KEY="k")
    again = admin_api.post(f"{KEYS}bulk-rotate/", sent, HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()["code"]) == (409, "already_processed")
    expected = [{k: v for k, v in result.items() if k != "value"} for result in first.json()["results"]]
    assert again.json()["results"] == expected
    assert [result["version"] for result in expected] == [2, 2]
    assert KeyVersion.objects.count() == 4
    values = [result["value"] for result in first.json()["results"]]
    assert not any(value in str(IdempotencyRecord.objects.get().body) for value in values)


def test_a_rotation_of_which_nothing_came_shows_no_secret_and_is_repeated_as_it_was(admin_api: APIClient) -> None:
    sent = {"ids": [str(uuid4())]}
    answers = [admin_api.post(f"{KEYS}bulk-rotate/", sent, HTTP_IDEMPOTENCY_KEY="k") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


def test_many_are_edited_alike(four: list[GatewayKey], api: ApiOf, manager: Member) -> None:
    lifecycle.revoke(actor=TESTS, key_id=four[3].pk)
    changes = {"description": "moved to the new cluster", "owner": manager.username}
    answer = api(manager).post(f"{KEYS}bulk-edit/", {"ids": ids_of(*four), "changes": changes})
    assert told(answer) == [
        ("done", "active", None),
        ("refused", "active", "permission_denied"),
        ("refused", None, "not_found"),
        ("refused", "revoked", "key_revoked"),
    ]
    edited = GatewayKey.objects.get(pk=four[0].pk)
    assert (edited.description, edited.owner) == ("moved to the new cluster", manager)
    assert list(GatewayKey.objects.filter(description=edited.description)) == [edited]


def test_what_a_groups_policy_refuses_is_told_at_the_field_of_that_key(admin_api: APIClient) -> None:
    strict = make_key(consumer_group=make_group(max_lifetime_days=30)).key
    free = make_key().key
    answer = admin_api.post(f"{KEYS}bulk-edit/", {"ids": ids_of(strict, free), "changes": {"expires_at": None}})
    assert told(answer) == [("refused", "active", "validation_error"), ("done", "active", None)]
    assert list(answer.json()["results"][0]["error"]["fields"]) == ["expires_at"]


@pytest.mark.parametrize("verb", ["revoke", "rotate", "edit"])
def test_all_or_nothing_does_nothing_where_one_is_refused(
    verb: str, four: list[GatewayKey], api: ApiOf, manager: Member
) -> None:
    client = api(manager)
    before = list(GatewayKey.objects.order_by("pk").values())
    entries = AuditEntry.objects.exclude(action__endswith="_refused").count()
    sent: dict[str, Any] = {"ids": ids_of(*four[:3]), "all_or_nothing": True}
    sent |= {"changes": {"name": "x"}} if verb == "edit" else {}
    answer = client.post(f"{KEYS}bulk-{verb}/", sent, HTTP_IDEMPOTENCY_KEY="k")
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (409, "nothing_done", {})
    assert told(answer) == [
        ("not_done", "active", None),
        ("refused", "active", "permission_denied"),
        ("refused", None, "not_found"),
    ]
    assert "kt_gk_" not in answer.content.decode().replace(four[0].hint, "")
    assert list(GatewayKey.objects.order_by("pk").values()) == before
    assert AuditEntry.objects.exclude(action__endswith="_refused").count() == entries
    assert AuditEntry.objects.filter(action__endswith="_refused").count() == 1
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("verb", ["revoke", "rotate", "edit"])
def test_all_or_nothing_does_all_where_none_is_refused(verb: str, admin_api: APIClient) -> None:
    keys = [make_key().key for _ in range(3)]
    sent: dict[str, Any] = {"ids": ids_of(*keys), "all_or_nothing": True}
    sent |= {"changes": {"name": "x"}} if verb == "edit" else {}
    answer = admin_api.post(f"{KEYS}bulk-{verb}/", sent)
    assert [outcome for outcome, _, _ in told(answer)] == ["done"] * 3
    done = {"revoke": "gateway_key.revoked", "rotate": "gateway_key.rotated", "edit": "gateway_key.edited"}[verb]
    assert AuditEntry.objects.filter(action=done).count() == 3


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("rotate", {"ids": [str(uuid4()) for _ in range(101)]}, "ids"),
        ("revoke", {"ids": [str(uuid4()) for _ in range(1_001)]}, "ids"),
        ("edit", {"ids": [str(uuid4()) for _ in range(1_001)], "changes": {"name": "x"}}, "ids"),
        ("rotate", {"ids": []}, "ids"),
        ("rotate", {"ids": ["nonsense"]}, "ids.0"),
        ("edit", {"ids": [str(uuid4())]}, "changes"),
        ("edit", {"ids": [str(uuid4())], "changes": {}}, "changes"),
        ("edit", {"ids": [str(uuid4())], "changes": {"nam": "x"}}, "changes.nam"),
        ("edit", {"ids": [str(uuid4())], "changes": {"consumer_group": "none"}}, "changes.consumer_group"),
        ("edit", {"ids": [str(uuid4())], "changes": {"name": "x"}, "reason": "x"}, "reason"),
        ("rotate", {"ids": [str(uuid4())], "all_or_nothing": "yes"}, "all_or_nothing"),
        ("rotate", {"ids": [str(uuid4())], "grace_seconds": -1}, "grace_seconds"),
        ("revoke", {"ids": [str(uuid4())], "reason": "x" * 501}, "reason"),
    ],
)
def test_what_is_wrong_with_the_call_is_told_at_the_field(
    verb: str, body: dict[str, Any], field: str, admin_api: APIClient
) -> None:
    answer = admin_api.post(f"{KEYS}bulk-{verb}/", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert list(answer.json()["fields"]) == [field]


def test_of_a_hundred_keys_each_is_rotated(admin_api: APIClient) -> None:
    keys = [make_key().key for _ in range(100)]
    answer = admin_api.post(f"{KEYS}bulk-rotate/", {"ids": ids_of(*keys), "grace_seconds": 0})
    assert told(answer) == [("done", "active", None)] * 100
    assert len({result["value"] for result in answer.json()["results"]}) == 100
    assert [result["id"] for result in answer.json()["results"]] == ids_of(*keys)


@pytest.mark.parametrize("verb", ["rotate", "edit"])
def test_an_auditor_changes_nothing_in_bulk(verb: str, auditor_api: APIClient) -> None:
    answer = auditor_api.post(f"{KEYS}bulk-{verb}/", {"ids": ids_of(make_key().key), "changes": {"name": "x"}})
    assert answer.status_code == 403


def test_the_longest_grace_of_a_group_holds_in_bulk_too(admin_api: APIClient) -> None:
    strict = make_key(consumer_group=make_group(max_grace_seconds=3600)).key
    day = int(timedelta(days=1).total_seconds())
    answer = admin_api.post(f"{KEYS}bulk-rotate/", {"ids": ids_of(strict, make_key().key), "grace_seconds": day})
    assert told(answer) == [("refused", "active", "validation_error"), ("done", "rotating", None)]

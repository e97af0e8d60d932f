"""The life of a key over the API: what each answer says, what it may not say, and what is recorded."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.test import Client
from rest_framework.test import APIClient

from access.models import Member
from audit import clock
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import GatewayKey
from tests.factories import TESTS, make_group, make_key, make_member
from tests.fixtures import ApiOf
from usage.models import KeyMetrics, VersionMetrics

pytestmark = pytest.mark.django_db
KEYS = "/api/v1/gateway-keys/"
FIELDS = [
    *("id", "name", "description", "consumer_group", "status", "hint", "created_at", "created_by", "owner"),
    *("expires_at",),
    *("allowed_networks", "disabled_at", "revoked_at", "revoked_by", "revoke_reason", "versions", "metrics"),
]


def path(key: GatewayKey, verb: str = "") -> str:
    return f"{KEYS}{key.pk}/{verb}/" if verb else f"{KEYS}{key.pk}/"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- create, show ----------------------------------------------------------------------------------------------------


def test_a_key_is_created_with_everything_said_of_it(admin_api: APIClient) -> None:
    make_group("payments")
    body = {
        "name": "prod",
        "description": "two\nlines",
        "consumer_group": "payments",
        "expires_at": "2090-01-01T00:00:00+02:00",
        "allowed_networks": ["10.0.0.0/8", "2001:db8::1"],
    }
    answer = admin_api.post(KEYS, body)
    made = answer.json()
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert [*made] == [*FIELDS, "value"]
    assert {name: made[name] for name in body} == {
        **body,
        "expires_at": "2089-12-31T22:00:00Z",
        "allowed_networks": ["10.0.0.0/8", "2001:db8::1/128"],
    }
    assert (made["status"], made["created_by"], made["hint"]) == ("active", "ada.admin", made["value"][:10] + "…")
    assert made["versions"] == [
        {
            "number": 1,
            "hint": made["hint"],
            "state": "current",
            "created_at": made["created_at"],
            "valid_until": None,
            "last_used_at": None,
            "total_requests": 0,
        }
    ]


def test_the_value_is_in_no_later_answer(admin_api: APIClient) -> None:
    made = admin_api.post(KEYS, {"name": "a"}).json()
    for later in (
        f"{KEYS}{made['id']}/",
        KEYS,
        f"{KEYS}{made['id']}/metrics/",
        f"/api/v1/audit-entries/?search={made['id']}",
    ):
        answer = admin_api.get(later)
        assert answer.status_code == 200
        assert made["value"][10:] not in answer.content.decode()
    assert [*admin_api.get(f"{KEYS}{made['id']}/").json()] == FIELDS


def test_an_answer_with_a_value_is_not_compressed(admin_api: APIClient) -> None:
    answer = admin_api.post(KEYS, {"name": "a", "description": "a" * 2_000}, HTTP_ACCEPT_ENCODING="gzip")
    assert answer["Content-Encoding"] == "identity"
    listed = admin_api.get(KEYS, HTTP_ACCEPT_ENCODING="gzip")
    assert listed["Content-Encoding"] == "gzip"


def test_an_absent_expiry_is_the_policys_and_null_is_never(admin_api: APIClient) -> None:
    make_group("short", default_lifetime_days=7)
    made = admin_api.post(KEYS, {"name": "a", "consumer_group": "short"}).json()
    assert made["expires_at"] is not None
    assert (
        admin_api.post(KEYS, {"name": "b", "consumer_group": "short", "expires_at": None}).json()["expires_at"] is None
    )


def test_the_policy_is_told_at_its_field(admin_api: APIClient) -> None:
    make_group("strict", max_lifetime_days=7, max_grace_seconds=60)
    answer = admin_api.post(KEYS, {"name": "a", "consumer_group": "strict", "expires_at": None})
    assert answer.json()["fields"]["expires_at"][0]["code"] == "expiry_required"
    made = admin_api.post(KEYS, {"name": "a", "consumer_group": "strict"}).json()
    answer = admin_api.post(f"{KEYS}{made['id']}/rotate/", {"grace_seconds": 61})
    assert answer.json()["fields"]["grace_seconds"][0]["code"] == "grace_exceeded"


def test_figures_come_with_the_key_and_its_versions(admin_api: APIClient) -> None:
    issued = make_key()
    used = clock.now()
    KeyMetrics.objects.create(
        key=issued.key, total_requests=10, total_reported=8, total_errors=2, last_used_at=used, requests_24h=5
    )
    VersionMetrics.objects.create(version=issued.version, total_requests=10, last_used_at=used)
    shown = admin_api.get(path(issued.key)).json()
    stamp = used.isoformat().replace("+00:00", "Z")
    assert shown["metrics"] == {
        "total_requests": 10,
        "last_used_at": stamp,
        "requests_24h": 5,
        "error_rate": 0.25,
        "error_rate_24h": None,
    }
    assert (shown["versions"][0]["total_requests"], shown["versions"][0]["last_used_at"]) == (10, stamp)


# --- edit ------------------------------------------------------------------------------------------------------------


def test_an_edit_changes_what_it_names_and_answers_with_the_key(admin_api: APIClient) -> None:
    make_group("a")
    key = make_key("before", description="stays").key
    edited = admin_api.patch(path(key), {"name": "after", "consumer_group": "a"}).json()
    assert (edited["name"], edited["consumer_group"], edited["description"]) == ("after", "a", "stays")
    assert admin_api.patch(path(key), {"consumer_group": None}).json()["consumer_group"] is None
    assert admin_api.patch(path(key), {}).status_code == 200
    assert AuditEntry.objects.filter(action="gateway_key.edited").count() == 2


def test_if_match_holds_an_edit_to_what_its_author_read(admin_api: APIClient) -> None:
    key = make_key("a").key
    tag = admin_api.get(path(key))["ETag"]
    first = admin_api.patch(path(key), {"name": "b"}, HTTP_IF_MATCH=tag)
    assert first.status_code == 200
    stale = admin_api.patch(path(key), {"name": "c"}, HTTP_IF_MATCH=tag)
    assert code(stale) == (412, "precondition_failed")
    assert GatewayKey.objects.get().name == "b"
    for current in (first["ETag"], f"W/{first['ETag']}", f'"x", {first["ETag"]}', "*"):
        assert admin_api.patch(path(key), {}, HTTP_IF_MATCH=current).status_code == 200
    for nonsense in ("x", '"', "é", first["ETag"].strip('"'), ""):
        refused = admin_api.patch(path(key), {}, HTTP_IF_MATCH=nonsense)
        assert (refused.status_code, list(refused.json()["fields"])) == (400, ["If-Match"])


def test_the_tag_changes_with_every_verb_and_with_no_use(admin_api: APIClient) -> None:
    issued = make_key()
    tags = [admin_api.get(path(issued.key))["ETag"]]
    KeyMetrics.objects.create(key=issued.key, total_requests=1)
    assert admin_api.get(path(issued.key))["ETag"] == tags[0]
    for verb in ("rotate", "end-grace", "disable", "revoke"):
        tags.append(admin_api.post(path(issued.key, verb))["ETag"])
        assert admin_api.get(path(issued.key))["ETag"] == tags[-1]
    assert len(set(tags)) == 5


@pytest.mark.django_db(transaction=True)
def test_of_many_edits_of_the_same_state_one_succeeds(api: ApiOf, admin: Member) -> None:
    client, key = api(admin), make_key().key
    tag = client.get(path(key))["ETag"]

    def edit(number: int) -> int:
        try:
            return int(client.patch(path(key), {"name": f"n{number}"}, HTTP_IF_MATCH=tag).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(edit, range(6))) == [200, *[412] * 5]


# --- verbs -----------------------------------------------------------------------------------------------------------


def test_rotation_shows_a_new_value_and_the_old_one_stays_in_grace(admin_api: APIClient) -> None:
    issued = make_key()
    answer = admin_api.post(path(issued.key, "rotate"), {"grace_seconds": 3600})
    rotated = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert rotated["value"] != issued.value
    assert (rotated["id"], rotated["status"]) == (str(issued.key.pk), "rotating")
    assert [(v["number"], v["state"]) for v in rotated["versions"]] == [(2, "current"), (1, "grace")]
    ended = admin_api.post(path(issued.key, "end-grace"), {}).json()
    assert [v["state"] for v in ended["versions"]] == ["current", "closed"]
    assert "value" not in ended


def test_a_running_grace_is_extended_and_later_only(admin_api: APIClient) -> None:
    key = make_key().key
    assert code(admin_api.post(path(key, "extend-grace"), {"grace_seconds": 60})) == (409, "not_in_grace")
    admin_api.post(path(key, "rotate"), {"grace_seconds": 3600})
    extended = admin_api.post(path(key, "extend-grace"), {"grace_seconds": 7200}).json()
    until = datetime.fromisoformat(extended["versions"][1]["valid_until"])
    assert timedelta(hours=1, minutes=59) < until - clock.now() <= timedelta(hours=2)
    refused = admin_api.post(path(key, "extend-grace"), {"grace_seconds": 60})
    assert refused.status_code == 400
    assert "accepted for as long as that already" in refused.content.decode()
    later = until + timedelta(hours=5)
    told = admin_api.post(path(key, "extend-grace"), {"until": later.isoformat()}).json()
    assert datetime.fromisoformat(told["versions"][1]["valid_until"]) == later


def test_a_rotation_may_leave_the_expiry_as_it_is(admin_api: APIClient) -> None:
    key = make_key(expires_at=clock.now() + timedelta(days=30)).key
    rotated = admin_api.post(path(key, "rotate"), {"renew_expiry": False, "grace_seconds": 0}).json()
    assert key.expires_at is not None
    assert rotated["expires_at"] == key.expires_at.isoformat().replace("+00:00", "Z")
    assert admin_api.post(path(key, "rotate")).json()["expires_at"] > rotated["expires_at"]


def test_disable_and_enable(admin_api: APIClient) -> None:
    key = make_key().key
    assert admin_api.post(path(key, "disable")).json()["status"] == "disabled"
    assert code(admin_api.post(path(key, "disable"))) == (409, "key_disabled")
    assert code(admin_api.post(path(key, "rotate"))) == (409, "key_disabled")
    assert admin_api.post(path(key, "enable")).json()["disabled_at"] is None
    assert code(admin_api.post(path(key, "enable"))) == (409, "not_disabled")
    assert code(admin_api.post(path(key, "end-grace"))) == (409, "not_in_grace")


def test_revoked_is_final_and_revoking_again_changes_nothing(admin_api: APIClient) -> None:
    key = make_key().key
    first = admin_api.post(path(key, "revoke"), {"reason": "leaked"}).json()
    assert (first["status"], first["revoked_by"], first["revoke_reason"]) == ("revoked", "ada.admin", "leaked")
    assert admin_api.post(path(key, "revoke"), {"reason": "again"}).json() == first
    for verb in ("rotate", "end-grace", "disable", "enable"):
        assert code(admin_api.post(path(key, verb))) == (409, "key_revoked")
    assert code(admin_api.patch(path(key), {"name": "b"})) == (409, "key_revoked")
    assert code(admin_api.delete(path(key))) == (405, "method_not_allowed")


def test_a_refused_transition_is_recorded_with_its_reason(admin_api: APIClient) -> None:
    key = make_key("a").key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    admin_api.post(path(key, "rotate"))
    refusal = AuditEntry.objects.get(action="gateway_key.rotate_refused")
    assert (refusal.actor_label, refusal.object_id, refusal.object_label) == ("ada.admin", str(key.pk), "a")
    assert refusal.detail == {"code": "key_revoked"}


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["rotate", "end-grace", "disable", "enable", "revoke"])
def test_an_auditor_is_refused_before_the_body_is_looked_at_and_it_is_recorded(
    auditor_api: APIClient, verb: str
) -> None:
    key = make_key().key
    assert code(auditor_api.post(path(key, verb), {"nonsense": 1})) == (403, "permission_denied")
    refusal = AuditEntry.objects.get(action=f"gateway_key.{verb.replace('-', '_')}_refused")
    assert (refusal.actor_label, refusal.object_id) == ("amy.auditor", str(key.pk))
    assert code(auditor_api.post(f"{KEYS}{uuid4()}/{verb}/")) == (404, "not_found")


def test_a_refused_create_and_edit_are_recorded(auditor_api: APIClient) -> None:
    key = make_key().key
    assert auditor_api.post(KEYS, {"name": "a"}).status_code == 403
    assert auditor_api.patch(path(key), {"name": "a"}).status_code == 403
    assert AuditEntry.objects.filter(action="gateway_key.create_refused", object_id="").count() == 1
    assert AuditEntry.objects.filter(action="gateway_key.edit_refused", object_id=str(key.pk)).count() == 1


def test_reading_is_never_recorded_as_refused(stranger_api: APIClient, auditor_api: APIClient) -> None:
    before = AuditEntry.objects.count()
    stranger_api.post(KEYS, {"name": "a"})
    auditor_api.get(f"{KEYS}{uuid4()}/")
    assert AuditEntry.objects.count() == before


def test_a_manager_works_on_the_keys_of_their_groups_alone(api: ApiOf, manager: Member) -> None:
    make_group("mine", managers=[manager])
    foreign = make_group("foreign", managers=[make_member("manager")])
    client = api(manager)
    hidden, unscoped = make_key(consumer_group=foreign).key, make_key().key
    own = client.post(KEYS, {"name": "a", "consumer_group": "mine"}).json()["id"]
    assert {key["id"] for key in client.get(KEYS).json()["results"]} == {own, str(unscoped.pk)}
    assert client.get(path(hidden)).status_code == 404
    assert client.post(path(hidden, "revoke")).status_code == 404
    assert client.post(KEYS, {"name": "a"}).status_code == 403
    assert client.post(path(unscoped, "rotate")).status_code == 403
    answer = client.post(KEYS, {"name": "a", "consumer_group": "foreign"})
    assert answer.json()["fields"]["consumer_group"][0]["code"] == "does_not_exist"
    assert client.patch(f"{KEYS}{own}/", {"consumer_group": "foreign"}).status_code == 400
    assert client.patch(f"{KEYS}{own}/", {"consumer_group": None}).status_code == 403
    assert GatewayKey.objects.get(pk=own).consumer_group_id is not None


# --- many at once ----------------------------------------------------------------------------------------------------


def test_many_keys_are_revoked_with_a_result_for_each(api: ApiOf, manager: Member) -> None:
    mine = make_group("mine", managers=[manager])
    hidden = make_key(consumer_group=make_group("foreign", managers=[make_member("manager")])).key
    own, again, unscoped = make_key(consumer_group=mine).key, make_key(consumer_group=mine).key, make_key().key
    lifecycle.revoke(actor=TESTS, key_id=again.pk)
    ids = [str(key.pk) for key in (own, hidden, unscoped, again, own)]
    answer = api(manager).post(f"{KEYS}bulk-revoke/", {"ids": ids, "reason": "clean-up"})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [(r["id"], r["revoked"], r["status"], (r["error"] or {}).get("code")) for r in results] == [
        (ids[0], True, "revoked", None),
        (ids[1], False, None, "not_found"),
        (ids[2], False, "active", "permission_denied"),
        (ids[3], True, "revoked", None),
    ]
    assert GatewayKey.objects.get(pk=own.pk).revoke_reason == "clean-up"
    refusal = AuditEntry.objects.get(action="gateway_key.revoke_refused")
    assert refusal.object_id == str(unscoped.pk)


def test_refusals_among_many_are_recorded_under_an_idempotency_key_too(api: ApiOf, manager: Member) -> None:
    make_group("foreign", managers=[make_member("manager")])
    ids = [str(make_key().key.pk)]
    client = api(manager)
    answers = [client.post(f"{KEYS}bulk-revoke/", {"ids": ids}, HTTP_IDEMPOTENCY_KEY="k") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert AuditEntry.objects.filter(action="gateway_key.revoke_refused").count() == 1


def test_an_auditor_may_not_revoke_many(auditor_api: APIClient) -> None:
    assert auditor_api.post(f"{KEYS}bulk-revoke/", {"ids": [str(make_key().key.pk)]}).status_code == 403
    assert AuditEntry.objects.filter(action="gateway_key.revoke_refused").count() == 1


# --- when something else goes wrong ----------------------------------------------------------------------------------


def test_a_database_that_does_not_answer_is_503_and_a_race_409(
    admin_api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> Any:
        def create(**_: Any) -> Any:
            raise error

        return create

    monkeypatch.setattr(lifecycle, "create", fail(OperationalError("gone")))
    answer = admin_api.post(KEYS, {"name": "a"})
    assert (code(answer), answer["Retry-After"]) == ((503, "unavailable"), "1")
    monkeypatch.setattr(lifecycle, "create", fail(IntegrityError("twice")))
    assert code(admin_api.post(KEYS, {"name": "a"})) == (409, "conflict")


def test_a_console_session_works_with_the_csrf_token(admin: Member) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    browser.get("/admin/password_change/")
    token = browser.cookies["keeptrusts_csrf"].value
    answer = browser.post(
        KEYS, json.dumps({"name": "a"}), content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert answer.status_code == 201
    assert AuditEntry.objects.get(action="gateway_key.created").credential == "session"


def test_the_owner_is_a_username_that_may_be_changed(admin_api: APIClient) -> None:
    make_member("auditor", username="olga.owner")
    made = admin_api.post(KEYS, {"name": "a"}).json()
    assert made["owner"] == "ada.admin"
    address = f"{KEYS}{made['id']}/"
    assert admin_api.patch(address, {"owner": "olga.owner"}).json()["owner"] == "olga.owner"
    assert [key["id"] for key in admin_api.get(f"{KEYS}?owner=olga.owner").json()["results"]] == [made["id"]]
    assert admin_api.get(f"{KEYS}?owner_left=true").json()["results"] == []
    assert admin_api.patch(address, {"owner": None}).json()["owner"] is None
    assert len(admin_api.get(f"{KEYS}?owner_left=true").json()["results"]) == 1
    assert [*admin_api.patch(address, {"owner": "nobody.known"}).json()["fields"]] == ["owner"]
    assert admin_api.post(KEYS, {"name": "b", "owner": None}).json()["owner"] is None

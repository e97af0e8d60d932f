"""The audit log over the API: read, search, export, verify."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from access.models import Member
from audit.api import EntryJSON
from audit.models import AuditEntry
from audit.notes import VerifierKey, parse, signed_by
from audit.sealing import seal
from keys import lifecycle
from tests.factories import TESTS, actor_of, make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
ENTRIES = "/api/v1/audit-entries/"


def actions(client: APIClient, **parameters: Any) -> list[str]:
    answer = client.get(ENTRIES, parameters)
    assert answer.status_code == 200, answer.content
    return [entry["action"] for entry in answer.json()["results"]]


def test_the_log_is_searched_by_a_keys_id_and_by_names(auditor_api: APIClient) -> None:
    key = make_key("prod-bot").key
    make_key("other")
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    assert actions(auditor_api, search=str(key.pk)) == ["gateway_key.disabled", "gateway_key.created"]
    assert actions(auditor_api, search="prod-bot") == ["gateway_key.disabled", "gateway_key.created"]
    assert actions(auditor_api, object_id=str(key.pk), action="gateway_key.created") == ["gateway_key.created"]
    assert actions(auditor_api, object_type="gateway_key", actor="tests", ordering="at")[-1] == "gateway_key.disabled"
    assert len(actions(auditor_api, action=["gateway_key.created", "gateway_key.disabled"])) == 3
    newest = AuditEntry.objects.get(action="gateway_key.disabled").at.isoformat()
    assert actions(auditor_api, at_after=newest) == ["gateway_key.disabled"]
    assert "gateway_key.disabled" not in actions(auditor_api, at_before=newest)


@pytest.mark.parametrize("query", ["action=x", "at_after=now", "at_before=2030-01-01", "actor=%00", "colour=red"])
def test_a_parameter_that_means_nothing_is_400(auditor_api: APIClient, query: str) -> None:
    assert list(auditor_api.get(f"{ENTRIES}?{query}").json()["fields"]) == [query.partition("=")[0]]


def test_one_entry_is_shown_whole(auditor_api: APIClient) -> None:
    make_key("a")
    entry = AuditEntry.objects.get(action="gateway_key.created")
    shown = auditor_api.get(f"{ENTRIES}{entry.pk}/").json()
    assert list(shown) == EntryJSON.Meta.fields
    assert shown["after"]["name"] == "a"


@pytest.mark.parametrize("method", ["post", "patch", "put", "delete"])
def test_nobody_writes_the_log(admin_api: APIClient, method: str) -> None:
    entry = AuditEntry.objects.first()
    assert entry is not None
    for path in (ENTRIES, f"{ENTRIES}{entry.pk}/", f"{ENTRIES}verify/"):
        assert getattr(admin_api, method)(path, {}).status_code == 405


def test_a_manager_reads_their_own_actions_and_all_about_their_keys(api: ApiOf, manager: Member) -> None:
    mine = make_group("mine", managers=[manager])
    foreign = make_group("foreign", managers=[make_member("manager")])
    own, hidden = make_key("own", consumer_group=mine).key, make_key("hidden", consumer_group=foreign).key
    make_gateway("edge")
    lifecycle.disable(actor=actor_of(manager), key_id=own.pk)
    client = api(manager)
    shown = client.get(ENTRIES).json()["results"]
    assert [(entry["action"], entry["object_id"]) for entry in shown] == [
        ("gateway_key.disabled", str(own.pk)),
        ("gateway_key.created", str(own.pk)),
    ]
    entry = AuditEntry.objects.get(object_id=str(hidden.pk))
    assert client.get(f"{ENTRIES}{entry.pk}/").status_code == 404
    assert client.get(f"{ENTRIES}verify/").status_code == 403
    assert client.get(f"{ENTRIES}export.csv").status_code == 403
    assert AuditEntry.objects.get(action="audit.export_refused").actor_label == manager.username


def test_verification_is_answered_and_recorded(auditor_api: APIClient) -> None:
    make_key()
    seal()
    verdict = auditor_api.get(f"{ENTRIES}verify/").json()
    assert {name: verdict[name] for name in ("valid", "pending", "checkpoints", "copies", "gaps", "problems")} == {
        "valid": True,
        "pending": 0,
        "checkpoints": 1,
        "copies": 0,
        "gaps": [],
        "problems": [],
    }
    assert verdict["sealed"] >= 1
    entry = AuditEntry.objects.get(action="audit.verified")
    assert (entry.actor_label, entry.detail["valid"]) == ("amy.auditor", True)
    assert auditor_api.get(f"{ENTRIES}verify/?search=x").status_code == 400


def test_verification_names_an_entry_that_was_put_in_from_outside(auditor_api: APIClient) -> None:
    make_key()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_unsealedentry")
    verdict = auditor_api.get(f"{ENTRIES}verify/").json()
    assert verdict["valid"] is False
    assert verdict["problems"][0]["code"] == "entry_inserted"


def test_an_export_is_recorded_and_holds_what_was_there_before_it(auditor_api: APIClient) -> None:
    make_key("=1+1")
    before = AuditEntry.objects.count()
    answer = auditor_api.get(f"{ENTRIES}export.csv")
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert list(rows[0]) == EntryJSON.Meta.fields
    assert len(rows) == before
    created = next(row for row in rows if row["action"] == "gateway_key.created")
    assert created["object_label"] == "'=1+1"
    assert json.loads(created["after"])["name"] == "=1+1"
    assert AuditEntry.objects.get(action="audit.exported").detail == {"filter": {}, "rows": before}


def test_a_page_takes_the_same_queries_however_many_entries(
    auditor_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    auditor_api.get(ENTRIES)
    for _ in range(2):
        make_key()
        with django_assert_num_queries(3):
            assert auditor_api.get(ENTRIES).status_code == 200


def test_the_newest_checkpoint_is_there_for_witnesses(auditor_api: APIClient) -> None:
    assert auditor_api.get(f"{ENTRIES}checkpoint/").json()["code"] == "no_evidence"
    make_key()
    seal()
    said = auditor_api.get(f"{ENTRIES}checkpoint/").json()
    keys = [VerifierKey.parse(text) for text in said["public_keys"]]
    assert signed_by(said["note"], keys) is not None
    assert parse(said["note"]).size == said["size"] == AuditEntry.objects.count()

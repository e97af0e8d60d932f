"""Consumer groups over the API."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from keys.models import ConsumerGroup
from tests.factories import make_group, make_member
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
GROUPS = "/api/v1/consumer-groups/"


def test_a_group_is_created_with_its_policy_and_edited(admin_api: APIClient, manager: Member) -> None:
    body = {
        "name": "Payments",
        "slug": "payments",
        "description": "cards",
        "managers": [manager.username],
        "default_lifetime_days": 30,
        "max_lifetime_days": 90,
        "expiry_required": True,
        "max_grace_seconds": 0,
        "allowed_networks": ["10.0.0.0/8"],
        "idle_days": 60,
    }
    made = admin_api.post(GROUPS, body)
    assert made.status_code == 201
    shown = admin_api.get(f"{GROUPS}payments/").json()
    assert shown == made.json()
    assert {name: shown[name] for name in body} == body
    edited = admin_api.patch(f"{GROUPS}payments/", {"idle_days": None, "managers": [], "name": "Cards"}).json()
    assert {**shown, "idle_days": None, "managers": [], "name": "Cards"} == edited
    entry = AuditEntry.objects.get(action="consumer_group.edited")
    assert entry.after == {"idle_days": None, "managers": [], "name": "Cards"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", [None, 1, "", "x" * 101, "taken"]),
        ("slug", [None, 1, "", "x" * 61, "with space", "taken", "ü", "a/b"]),
        ("description", [None, 1, "x" * 2_001]),
        ("managers", [None, "max.manager", [1], ["nobody"], ["amy.auditor"], [""], ["x" * 501], ["a\x01"]]),
        ("expiry_required", [None, 1, "true", []]),
        ("allowed_networks", [None, "10.0.0.0/8", [1], ["10.0.0.1/8"]]),
        ("max_grace_seconds", [-1, 10**12, "5", 1.5, True]),
        *((field, [0, -1, 36_501, 10**30, "5", 1.5, True, []]) for field in ("max_lifetime_days", "idle_days")),
        ("default_lifetime_days", [91, 0]),
        ("created_at", ["2026-01-01T00:00:00Z"]),
        ("id", [1]),
    ],
)
@pytest.mark.usefixtures("manager", "auditor")
def test_what_does_not_fit_is_refused_at_its_field(admin_api: APIClient, field: str, values: list[Any]) -> None:
    make_group("taken")
    for value in values:
        answer = admin_api.post(GROUPS, {"name": "n", "slug": "s", "max_lifetime_days": 90, field: value})
        assert answer.status_code == 400, (value, answer.content)
        assert {name.split(".")[0] for name in answer.json()["fields"]} == {field}
    assert ConsumerGroup.objects.count() == 1


def test_the_slug_is_fixed(admin_api: APIClient) -> None:
    make_group("a")
    answer = admin_api.patch(f"{GROUPS}a/", {"slug": "b"})
    assert answer.json()["fields"]["slug"][0]["code"] == "unknown_field"


def test_groups_are_an_admins_to_change_and_managers_see_their_own(
    api: ApiOf, manager: Member, auditor_api: APIClient
) -> None:
    make_group("mine", managers=[manager])
    make_group("foreign", managers=[make_member("manager")])
    client = api(manager)
    assert [group["slug"] for group in client.get(GROUPS).json()["results"]] == ["mine"]
    assert client.get(f"{GROUPS}foreign/").status_code == 404
    assert client.patch(f"{GROUPS}foreign/", {"name": "x"}).status_code == 404
    assert client.patch(f"{GROUPS}mine/", {"name": "x"}).status_code == 403
    assert auditor_api.get(GROUPS).json()["count"] == 2
    assert auditor_api.post(GROUPS, {"name": "a", "slug": "a"}).status_code == 403
    assert AuditEntry.objects.filter(action="consumer_group.edit_refused", object_label="mine").count() == 1
    assert AuditEntry.objects.filter(action="consumer_group.create_refused").count() == 1


def test_a_page_takes_the_same_queries_however_many_groups(
    admin_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    manager = make_member("manager")
    admin_api.get(GROUPS)
    for _ in range(2):
        make_group(managers=[manager])
        with django_assert_num_queries(4):
            assert admin_api.get(GROUPS, {"search": "group", "ordering": "-slug"}).status_code == 200

"""Gateways over the API."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from access.models import Member
from access.tokens import TokenKind, is_well_formed
from audit.models import AuditEntry
from gateways.models import Gateway, GatewayToken
from keys.models import ConsumerGroup
from tests.factories import make_gateway, make_group, make_member
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
GATEWAYS = "/api/v1/gateways/"


def test_a_gateway_is_registered_and_its_token_shown_once(admin_api: APIClient) -> None:
    make_group("a")
    body = {
        "name": "edge",
        "usage_source": "report",
        "consumer_groups": ["a"],
        "require_group": True,
        "client_address": "forwarded",
    }
    answer = admin_api.post(GATEWAYS, body)
    made = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    assert {name: made[name] for name in body} == body
    assert is_well_formed(made["token"], TokenKind.GATEWAY_TOKEN)
    shown = admin_api.get(f"{GATEWAYS}{made['id']}/")
    assert "token" not in shown.json()
    assert made["token"][10:] not in shown.content.decode()
    assert [token["hint"] for token in shown.json()["tokens"]] == [made["token"][:10] + "…"]


def test_a_gateway_is_edited(admin_api: APIClient) -> None:
    gateway = make_gateway(consumer_groups=[make_group("a")]).gateway
    edited = admin_api.patch(f"{GATEWAYS}{gateway.pk}/", {"consumer_groups": [], "name": "new"}).json()
    assert (edited["consumer_groups"], edited["name"], edited["usage_source"]) == ([], "new", "authorize")
    assert AuditEntry.objects.get(action="gateway.edited").after == {"consumer_groups": [], "name": "new"}


def test_a_token_is_rotated_with_an_overlap(admin_api: APIClient) -> None:
    gateway = make_gateway().gateway
    path = f"{GATEWAYS}{gateway.pk}/rotate-token/"
    answer = admin_api.post(path, {"overlap_seconds": 60})
    assert (answer.status_code, answer["Cache-Control"], len(answer.json()["tokens"])) == (200, "no-store", 2)
    assert len(admin_api.post(path, {"overlap_seconds": 0}).json()["tokens"]) == 1
    assert len(admin_api.post(path).json()["tokens"]) == 2
    assert GatewayToken.objects.count() == 4
    for wrong in (-1, 10**30, 30 * 24 * 3600 + 1, "5", None, 1.5):
        assert list(admin_api.post(path, {"overlap_seconds": wrong}).json()["fields"]) == ["overlap_seconds"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", [None, 1, "", "x" * 101, "taken"]),
        ("usage_source", [None, 1, "", "both", [], {}]),
        ("client_address", [None, 1, "header ", [], {}]),
        ("require_group", [None, 0, "false"]),
        ("consumer_groups", [None, "a", [1], ["nobody"], [["a"]], [""], ["x" * 501]]),
        ("token", ["x"]),
    ],
)
def test_what_does_not_fit_is_refused_at_its_field(admin_api: APIClient, field: str, values: list[Any]) -> None:
    make_gateway("taken")
    for value in values:
        answer = admin_api.post(GATEWAYS, {"name": "n", field: value})
        assert answer.status_code == 400, (value, answer.content)
        assert {name.split(".")[0] for name in answer.json()["fields"]} == {field}
    assert Gateway.objects.count() == 1


def test_gateways_are_an_admins_to_change(api: ApiOf, manager: Member, auditor: Member) -> None:
    gateway = make_gateway().gateway
    for client in (api(manager), api(auditor)):
        assert client.get(f"{GATEWAYS}{gateway.pk}/").status_code == 200
        assert client.post(GATEWAYS, {"name": "x"}).status_code == 403
        assert client.patch(f"{GATEWAYS}{gateway.pk}/", {"name": "x"}).status_code == 403
        assert client.post(f"{GATEWAYS}{gateway.pk}/rotate-token/").status_code == 403
    refusals = AuditEntry.objects.filter(action__startswith="gateway.", action__endswith="_refused")
    assert refusals.count() == 6


def test_a_manager_learns_of_no_foreign_group(api: ApiOf, manager: Member) -> None:
    mine, foreign = make_group("mine", managers=[manager]), make_group("foreign", managers=[make_member("manager")])
    make_gateway("both", consumer_groups=[mine, foreign])
    make_gateway("hidden", consumer_groups=[foreign])
    (shown,) = api(manager).get(GATEWAYS).json()["results"]
    assert (shown["name"], shown["consumer_groups"]) == ("both", ["mine"])


def test_a_filter_does_not_tell_a_manager_which_foreign_groups_there_are(
    api: ApiOf, manager: Member, admin_api: APIClient
) -> None:
    make_group("theirs", managers=[manager])
    make_group("foreign", managers=[make_member("manager")])
    make_gateway(consumer_groups=list(ConsumerGroup.objects.all()))
    counts = [
        [client.get(GATEWAYS, {"consumer_group": slug}).json()["count"] for slug in ("theirs", "foreign", "none")]
        for client in (api(manager), admin_api)
    ]
    assert counts == [[1, 0, 0], [1, 1, 0]]


def test_a_page_takes_the_same_queries_however_many_gateways(
    admin_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    group = make_group("a")
    admin_api.get(GATEWAYS)
    for _ in range(2):
        make_gateway(consumer_groups=[group])
        with django_assert_num_queries(5):
            parameters = {"search": "gateway", "ordering": "-name", "consumer_group": "a", "usage_source": "authorize"}
            assert admin_api.get(GATEWAYS, parameters).json()["count"] >= 1

"""An access key does what its owner's role allows, or less: reading only, chosen groups only, and for a time."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any, Final

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from access.access_keys import create_access_key, find_usable
from access.limits import WITHIN_GROUPS
from access.models import AccessKey, Member
from access.rules import PERMISSIONS, Role
from audit import clock
from audit.models import AuditEntry
from gateways.models import Gateway
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from tests.factories import TESTS, actor_of, make_access_key, make_gateway, make_group, make_key, make_member
from tests.test_permission_matrix import API, MATRIX, ROLES, make_denial
from tests.webhooks.makers import make_delivery
from webhooks.models import Delivery, WebhookEndpoint

pytestmark = pytest.mark.django_db
ACCESS_KEYS: Final = f"/{API}access-keys/"
KEYS: Final = f"/{API}gateway-keys/"


def client_of(member: Member, **limits: Any) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {make_access_key(member, **limits).value}")


@pytest.fixture
def names(admin: Member, manager: Member) -> dict[str, str]:
    """What the routes of the matrix are about: all of it in group `payments`, of which nothing is in `search`."""
    group = make_group("payments", managers=[manager])
    make_group("search", managers=[manager])
    key = make_key(consumer_group=group).key
    entry = AuditEntry.objects.get(action="gateway_key.created")
    gateway = make_gateway(consumer_groups=[group]).gateway
    delivery = make_delivery(key)
    return {
        "key": str(key.pk),
        "gateway": str(gateway.pk),
        "entry": str(entry.pk),
        "own": str(make_access_key(admin, name="another of theirs").access_key.pk),
        "member": str(make_member("auditor").pk),
        "endpoint": str(delivery.endpoint_id),
        "delivery": str(delivery.pk),
        "denial": make_denial(gateway, group, key).decision_id,
    }


def call(client: APIClient, method: str, route: str, names: dict[str, str]) -> Any:
    body = MATRIX[method, route][0]
    body = {**body, "ids": [names["key"]]} if "ids" in body else body
    return getattr(client, method)(f"/{API}{route.format(**names)}", body)


def state() -> list[Any]:
    models = (GatewayKey, ConsumerGroup, InstallationPolicy, Gateway, WebhookEndpoint, Delivery, Member)
    facts = [list(model.objects.order_by("pk").values()) for model in models]
    # "Last used" is noted for whoever calls.
    return [*facts, list(AccessKey.objects.order_by("pk").values_list("pk", "name", "revoked_at"))]


# By POST, because what is asked about is to stand in no address.
ONLY_ASKS: Final = {"gateway-keys/find/"}
# Whether there is such an endpoint does not matter to who may see none.
LISTS_BELOW: Final = {"webhook-endpoints/{endpoint}/deliveries/"}


# --- reading only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "route"), MATRIX)
def test_a_read_only_key_reads_as_its_role_does_and_changes_nothing(
    role: Role, method: str, route: str, names: dict[str, str], request: pytest.FixtureRequest
) -> None:
    member: Member = request.getfixturevalue(role.value)
    names["own"] = str(make_access_key(member, name="another of theirs").access_key.pk)
    client = client_of(member, read_only=True)
    before = state()
    answer = call(client, method, route, names)
    assert state() == before
    by_role = MATRIX[method, route][1 + ROLES.index(role)]
    if method == "get" or route in ONLY_ASKS or by_role == 404:
        assert answer.status_code == by_role
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert "access key" in answer.json()["detail"]
        refusal = AuditEntry.objects.filter(action__endswith="_refused").get()
        assert refusal.actor_id == str(member.pk)


# --- chosen groups ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "route"), [place for place in MATRIX if "{" in place[1] or "payments" in place[1]])
def test_a_key_of_other_groups_finds_nothing_there(
    method: str, route: str, names: dict[str, str], admin: Member
) -> None:
    client, before = client_of(admin, consumer_groups=["search"]), state()
    answer = call(client, method, route, names)
    expected = (403, "permission_denied") if route in LISTS_BELOW else (404, "not_found")
    assert (answer.status_code, answer.json()["code"]) == expected
    assert state()[:-1] == before[:-1]


@pytest.mark.parametrize(("method", "route"), [place for place in MATRIX if place[1].endswith("}/")])
def test_a_key_of_the_group_reads_what_is_in_it(method: str, route: str, names: dict[str, str], admin: Member) -> None:
    issued = make_access_key(admin, consumer_groups=["payments"])
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {issued.value}")
    expected = 200 if method == "get" or "{key}" in route else 403
    expected = 404 if "member" in route or "endpoint" in route else expected
    assert call(client, method, route, {**names, "own": str(issued.access_key.pk)}).status_code == expected


def test_lists_exports_and_bulk_calls_keep_within_the_groups(names: dict[str, str], admin: Member) -> None:
    make_key(consumer_group=ConsumerGroup.objects.get(slug="search"))
    unscoped = make_key().key
    client = client_of(admin, consumer_groups=["payments"])
    assert [key["id"] for key in client.get(KEYS).json()["results"]] == [names["key"]]
    assert [group["slug"] for group in client.get(f"/{API}consumer-groups/").json()["results"]] == ["payments"]
    assert client.get(ACCESS_KEYS).json()["count"] == 1
    entries = client.get(f"/{API}audit-entries/").json()["results"]
    assert {entry["object_id"] for entry in entries} == {names["key"]}
    lines = b"".join(client.get(f"{KEYS}export.csv")).decode().splitlines()
    assert len(lines) == 2
    results = client.post(f"{KEYS}bulk-revoke/", {"ids": [names["key"], str(unscoped.pk)]}).json()["results"]
    assert [(one["revoked"], (one["error"] or {}).get("code")) for one in results] == [
        (True, None),
        (False, "not_found"),
    ]
    unscoped.refresh_from_db()
    assert unscoped.revoked_at is None


def test_a_key_of_chosen_groups_makes_keys_there_alone(names: dict[str, str], admin: Member) -> None:
    client = client_of(admin, consumer_groups=["payments"])
    assert client.post(KEYS, {"name": "a", "consumer_group": "payments"}).status_code == 201
    assert client.post(KEYS, {"name": "b", "consumer_group": "search"}).status_code == 400
    assert client.post(KEYS, {"name": "c"}).status_code == 403
    moved = client.patch(f"{KEYS}{names['key']}/", {"consumer_group": None})
    assert moved.status_code == 403
    assert GatewayKey.objects.get(pk=names["key"]).consumer_group is not None


def test_reports_exports_and_findings_keep_within_the_groups(names: dict[str, str], admin: Member) -> None:
    foreign = make_key(consumer_group=ConsumerGroup.objects.get(slug="search"))
    own = make_key(consumer_group=ConsumerGroup.objects.get(slug="payments"))
    lifecycle.rotate(actor=TESTS, key_id=foreign.key.pk)
    client = client_of(admin, consumer_groups=["payments"])
    review = client.get(f"/{API}reports/access-review/").json()
    assert {group["consumer_group"] for group in review["groups"]} == {"payments"}
    assert (review["totals"]["keys"], review["members"]) == (2, None)
    rotations = client.get(f"/{API}reports/rotation-compliance/").json()
    assert (rotations["total"], sum(month["rotations"] for month in rotations["months"])) == (2, 0)
    for report in ("access-review", "rotation-compliance"):
        assert client.get(f"/{API}reports/{report}/", {"consumer_group": "search"}).status_code == 400
        text = b"".join(client.get(f"/{API}reports/{report}/export.csv")).decode()
        assert str(own.key.pk) in text
        assert str(foreign.key.pk) not in text
    assert client.get(f"/{API}usage-days/export.csv").status_code == 200
    for value, verdict in ((own.value, "found"), (foreign.value, "unknown"), (foreign.value[:10], "unknown")):
        assert client.post(f"{KEYS}find/", {"value": value}).json()["verdict"] == verdict


@pytest.mark.parametrize(
    ("method", "route"),
    [
        *(("get", route) for route in ("members/", "webhook-endpoints/", "reports/access-review/team.csv")),
        *(("get", route) for route in ("audit-entries/verify/", "audit-entries/checkpoint/")),
        *(("patch", "policy/"), ("post", "policy/preview/"), ("patch", "me/")),
        *(("post", "members/"), ("post", "webhook-endpoints/"), ("post", "gateways/")),
    ],
)
def test_what_is_of_no_group_is_none_of_its_business(
    method: str, route: str, names: dict[str, str], admin: Member
) -> None:
    client, before = client_of(admin, consumer_groups=["payments"]), state()
    assert call(client, method, route, names).status_code == 403
    assert state()[:-1] == before[:-1]


def test_the_policy_that_holds_for_its_keys_it_may_read(names: dict[str, str], admin: Member) -> None:
    assert client_of(admin, consumer_groups=["payments"]).get(f"/{API}policy/").status_code == 200


def test_a_key_of_chosen_groups_ends_itself_and_begets_nothing(names: dict[str, str], admin: Member) -> None:
    issued = make_access_key(admin, consumer_groups=["payments"])
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {issued.value}")
    assert client.post(ACCESS_KEYS, {"name": "broader"}).status_code == 403
    assert client.post(f"/{API}consumer-groups/", {"name": "x", "slug": "x"}).status_code == 403
    assert client.get(f"/{API}audit-entries/verify/").status_code == 403
    assert client.post(f"{ACCESS_KEYS}{issued.access_key.pk}/revoke/").status_code == 200
    assert find_usable(issued.value) is None


def test_the_groups_of_a_key_never_give_more_than_the_role(names: dict[str, str], manager: Member) -> None:
    client = client_of(manager, consumer_groups=["payments"])
    assert client.get(f"{KEYS}{names['key']}/").status_code == 200
    group = ConsumerGroup.objects.get(slug="payments")
    group.managers.set([make_member("manager")])
    assert client.get(f"{KEYS}{names['key']}/").status_code == 404
    assert client.get(KEYS).json()["count"] == 0


def test_an_answer_to_another_credential_is_not_repeated_to_one_that_may_do_less(
    names: dict[str, str], admin: Member
) -> None:
    once, body = {"HTTP_IDEMPOTENCY_KEY": "rotation-1"}, {"reason": "leaked"}
    place = f"{KEYS}{names['key']}/revoke/"
    assert client_of(admin).post(place, body, **once).status_code == 200  # type: ignore[arg-type]  # headers
    limited = client_of(admin, consumer_groups=["search"])
    assert limited.post(place, body, **once).status_code == 404  # type: ignore[arg-type]  # headers


def test_what_is_let_through_to_keys_of_groups_is_in_the_rule_book() -> None:
    assert set(PERMISSIONS) >= WITHIN_GROUPS


@pytest.mark.parametrize(
    "groups", [[], ["nowhere"], ["payments", "nowhere"], ["payments"] * 2 + [f"g{n}" for n in range(100)]]
)
def test_groups_that_the_owner_does_not_see_are_refused_by_name(
    groups: list[str], names: dict[str, str], admin: Member
) -> None:
    answer = client_of(admin).post(ACCESS_KEYS, {"name": "x", "consumer_groups": groups})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"consumer_groups"}


def test_the_api_makes_and_tells_of_limited_keys(names: dict[str, str], auditor: Member) -> None:
    made = client_of(auditor).post(
        ACCESS_KEYS, {"name": "reports", "read_only": True, "consumer_groups": ["search", "payments"]}
    )
    assert made.status_code == 201
    assert (made.json()["read_only"], made.json()["consumer_groups"]) == (True, ["payments", "search"])
    limited = APIClient(HTTP_AUTHORIZATION=f"Bearer {made.json()['value']}")
    me = limited.get(f"/{API}me/").json()["access_key"]
    assert (me["read_only"], me["consumer_groups"]) == (True, ["payments", "search"])
    entry = AuditEntry.objects.get(action="access_key.created", object_id=made.json()["id"])
    assert entry.after["consumer_groups"] == ["payments", "search"]
    listed = client_of(auditor).get(ACCESS_KEYS, {"consumer_group": "search", "read_only": "true"}).json()
    assert [one["id"] for one in listed["results"]] == [made.json()["id"]]


def test_a_name_can_be_changed_and_nothing_else(admin: Member, manager: Member) -> None:
    key = make_access_key(manager).access_key
    place, client = f"{ACCESS_KEYS}{key.pk}/", client_of(manager)
    assert client.patch(place, {"name": "renamed"}).json()["name"] == "renamed"
    assert client.patch(place, {"read_only": False}).status_code == 400
    assert client_of(admin).patch(place, {"name": "by an Admin"}).status_code == 200
    assert client_of(make_member("manager")).patch(place, {"name": "x"}).status_code == 404
    client.post(f"{place}revoke/")
    refused = client.patch(place, {"name": "too late"})
    assert (refused.status_code, refused.json()["code"]) == (409, "access_key_revoked")


# --- for a time -------------------------------------------------------------------------------------------------------


def test_a_key_expires_after_ninety_days_unless_something_else_is_said(admin: Member) -> None:
    expires_at = make_access_key(admin).access_key.expires_at
    assert expires_at is not None
    assert abs(expires_at - clock.now() - timedelta(days=90)) < timedelta(minutes=1)


def test_no_door_makes_a_key_that_lives_longer_than_the_ceiling(admin: Member, settings: Settings) -> None:
    settings.KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME = timedelta(days=30)
    settings.KEEPTRUSTS_ACCESS_KEY_LIFETIME = timedelta(days=14)
    client = client_of(admin)
    for expires_at, code in ((clock.now() + timedelta(days=31), "above_maximum"), (None, "required")):
        answer = client.post(ACCESS_KEYS, {"name": "x", "expires_at": expires_at and expires_at.isoformat()})
        assert answer.json()["fields"]["expires_at"][0]["code"] == code
        with pytest.raises(ValidationError):
            create_access_key(actor=actor_of(admin), owner=admin, name="x", expires_at=expires_at)
    with pytest.raises(CommandError, match="30 days at most"):
        call_command("create_access_key", admin.username, "--name", "x", "--days", "31")
    settings.KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME = None
    assert client.post(ACCESS_KEYS, {"name": "x", "expires_at": None}).json()["expires_at"] is None


def test_the_command_makes_limited_keys(admin: Member) -> None:
    make_group("payments")
    out = StringIO()
    options = ("--name", "ci", "--days", "7", "--read-only", "--group", "payments")
    call_command("create_access_key", admin.username, *options, stdout=out)
    key = find_usable(out.getvalue().strip())
    assert key is not None
    assert (key.read_only, key.group_slugs()) == (True, ["payments"])
    with pytest.raises(CommandError, match="nowhere"):
        call_command("create_access_key", admin.username, "--name", "x", "--group", "nowhere")

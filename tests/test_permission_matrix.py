"""One rule book: what each role is answered on every route of the API. A route that is not in the table fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from access.models import Member
from access.rules import PERMISSIONS, Role
from audit import clock
from audit.models import AuditEntry
from gateways.models import Gateway
from keeptrusts.api import schema
from keys.models import ConsumerGroup, GatewayKey
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf
from tests.webhooks.makers import make_delivery
from usage.models import Outcome, UsageEvent

pytestmark = pytest.mark.django_db
API: Final = "api/v1/"
NO_BODY: Final[dict[str, Any]] = {}

# method, route -> body, and the answers to Admin, Manager (of the key's group), Auditor. Strangers: always 401.
MATRIX: Final[dict[tuple[str, str], tuple[dict[str, Any], int, int, int]]] = {
    ("get", "me/"): (NO_BODY, 200, 200, 200),
    ("patch", "me/"): ({"time_zone": "Europe/Berlin"}, 200, 200, 200),
    ("get", "access-keys/"): (NO_BODY, 200, 200, 200),
    ("post", "access-keys/"): ({"name": "x"}, 201, 201, 201),
    ("get", "access-keys/{own}/"): (NO_BODY, 200, 200, 200),
    ("patch", "access-keys/{own}/"): ({"name": "x"}, 200, 200, 200),
    ("post", "access-keys/{own}/revoke/"): (NO_BODY, 200, 200, 200),
    ("get", "consumer-groups/"): (NO_BODY, 200, 200, 200),
    ("post", "consumer-groups/"): ({"name": "x", "slug": "x"}, 201, 403, 403),
    ("get", "consumer-groups/payments/"): (NO_BODY, 200, 200, 200),
    ("patch", "consumer-groups/payments/"): ({"name": "x"}, 200, 403, 403),
    ("post", "consumer-groups/payments/policy-preview/"): ({"idle_days": 1}, 200, 403, 403),
    ("get", "policy/"): (NO_BODY, 200, 200, 200),
    ("patch", "policy/"): ({"idle_days": 30}, 200, 403, 403),
    ("post", "policy/preview/"): ({"idle_days": 30}, 200, 403, 403),
    ("get", "gateway-keys/"): (NO_BODY, 200, 200, 200),
    ("post", "gateway-keys/"): ({"name": "x", "consumer_group": "payments"}, 201, 201, 403),
    ("get", "gateway-keys/{key}/"): (NO_BODY, 200, 200, 200),
    ("patch", "gateway-keys/{key}/"): ({"name": "x"}, 200, 200, 403),
    ("post", "gateway-keys/{key}/rotate/"): (NO_BODY, 200, 200, 403),
    ("post", "gateway-keys/{key}/end-grace/"): (NO_BODY, 409, 409, 403),
    ("post", "gateway-keys/{key}/extend-grace/"): ({"grace_seconds": 60}, 409, 409, 403),
    ("post", "gateway-keys/{key}/disable/"): (NO_BODY, 200, 200, 403),
    ("post", "gateway-keys/{key}/enable/"): (NO_BODY, 409, 409, 403),
    ("post", "gateway-keys/{key}/revoke/"): (NO_BODY, 200, 200, 403),
    ("post", "gateway-keys/bulk-revoke/"): ({"ids": ["{key}"]}, 200, 200, 403),
    ("post", "gateway-keys/bulk-rotate/"): ({"ids": ["{key}"]}, 200, 200, 403),
    ("post", "gateway-keys/bulk-edit/"): ({"ids": ["{key}"], "changes": {"name": "x"}}, 200, 200, 403),
    ("post", "gateway-keys/find/"): ({"value": "kt_gk_"}, 200, 200, 200),
    ("get", "members/"): (NO_BODY, 200, 403, 403),
    ("post", "members/"): ({"username": "x", "role": "auditor"}, 201, 403, 403),
    ("get", "members/{member}/"): (NO_BODY, 200, 404, 404),
    ("patch", "members/{member}/"): ({"name": "x"}, 200, 404, 404),
    ("post", "members/{member}/invite-again/"): (NO_BODY, 409, 404, 404),
    ("post", "members/{member}/withdraw-invitation/"): (NO_BODY, 409, 404, 404),
    ("post", "members/{member}/take-out/"): (NO_BODY, 200, 404, 404),
    ("post", "members/{member}/let-in/"): (NO_BODY, 200, 404, 404),
    ("get", "gateway-keys/{key}/metrics/"): (NO_BODY, 200, 200, 200),
    ("get", "gateway-keys/export.csv"): (NO_BODY, 200, 200, 200),
    ("get", "gateways/"): (NO_BODY, 200, 200, 200),
    ("post", "gateways/"): ({"name": "x"}, 201, 403, 403),
    ("get", "gateways/{gateway}/"): (NO_BODY, 200, 200, 200),
    ("patch", "gateways/{gateway}/"): ({"name": "x"}, 200, 403, 403),
    ("post", "gateways/{gateway}/rotate-token/"): (NO_BODY, 200, 403, 403),
    ("get", "webhook-endpoints/"): (NO_BODY, 200, 403, 403),
    ("post", "webhook-endpoints/"): ({"name": "x", "url": "https://8.8.8.8/"}, 201, 403, 403),
    ("get", "webhook-endpoints/{endpoint}/"): (NO_BODY, 200, 404, 404),
    ("patch", "webhook-endpoints/{endpoint}/"): ({"name": "x"}, 200, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/rotate-secret/"): (NO_BODY, 200, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/test/"): (NO_BODY, 202, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/redeliver/"): (NO_BODY, 202, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/disable/"): (NO_BODY, 200, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/enable/"): (NO_BODY, 409, 404, 404),
    ("get", "webhook-endpoints/{endpoint}/deliveries/"): (NO_BODY, 200, 403, 403),
    ("get", "webhook-endpoints/{endpoint}/deliveries/{delivery}/"): (NO_BODY, 200, 404, 404),
    ("post", "webhook-endpoints/{endpoint}/deliveries/{delivery}/redeliver/"): (NO_BODY, 202, 404, 404),
    ("get", "denials/{denial}/"): (NO_BODY, 200, 200, 200),
    ("get", "usage-events/"): (NO_BODY, 200, 200, 200),
    ("get", "usage-events/987654321/"): (NO_BODY, 404, 404, 404),
    ("get", "usage-events/export.csv"): (NO_BODY, 200, 200, 200),
    ("get", "usage-days/export.csv"): (NO_BODY, 200, 200, 200),
    ("get", "reports/access-review/"): (NO_BODY, 200, 200, 200),
    ("get", "reports/access-review/export.csv"): (NO_BODY, 200, 200, 200),
    ("get", "reports/access-review/team.csv"): (NO_BODY, 200, 403, 200),
    ("get", "reports/rotation-compliance/"): (NO_BODY, 200, 200, 200),
    ("get", "reports/rotation-compliance/export.csv"): (NO_BODY, 200, 200, 200),
    ("get", "audit-entries/"): (NO_BODY, 200, 200, 200),
    ("get", "audit-entries/{entry}/"): (NO_BODY, 200, 200, 200),
    ("get", "audit-entries/export.csv"): (NO_BODY, 200, 403, 200),
    ("get", "audit-entries/verify/"): (NO_BODY, 200, 403, 200),
    # Nothing is sealed here yet.
    # As above: 409, for there is nothing yet to prove by.
    ("get", "audit-entries/evidence/"): (NO_BODY, 409, 403, 409),
    ("get", "audit-entries/checkpoint/"): (NO_BODY, 409, 403, 409),
}
ROLES: Final = [Role.ADMIN, Role.MANAGER, Role.AUDITOR]


def make_denial(gateway: Gateway, group: ConsumerGroup, key: GatewayKey) -> UsageEvent:
    """Write that the gateway was told to refuse the key."""
    return UsageEvent.objects.create(
        gateway=gateway,
        event_id="d1",
        decision_id="d1",
        occurred_at=clock.now(),
        received_at=clock.now(),
        outcome=Outcome.DENIED,
        reason="key_disabled",
        key=key,
        version=key.versions.get(),
        consumer_group=group,
    )


@pytest.fixture
def names(manager: Member) -> dict[str, str]:
    group = make_group("payments", managers=[manager])
    key = make_key(consumer_group=group).key
    entry = AuditEntry.objects.get(action="gateway_key.created")
    delivery = make_delivery(key)
    other = make_member("auditor")
    gateway = make_gateway().gateway
    return {
        "denial": make_denial(gateway, group, key).decision_id,
        "endpoint": str(delivery.endpoint_id),
        "delivery": str(delivery.pk),
        "key": str(key.pk),
        "member": str(other.pk),
        "gateway": str(gateway.pk),
        "entry": str(entry.pk),
    }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "route"), MATRIX)
def test_each_role_is_answered_by_the_rule_book(
    role: Role, method: str, route: str, names: dict[str, str], api: ApiOf, request: pytest.FixtureRequest
) -> None:
    member: Member = request.getfixturevalue(role.value)
    names["own"] = str(make_access_key(member).access_key.pk)
    body, *answers = MATRIX[method, route]
    body = {**body, "ids": [names["key"]]} if "ids" in body else body
    before = AuditEntry.objects.filter(action__endswith="_refused").count()
    answer = getattr(api(member), method)(f"/{API}{route.format(**names)}", body)
    assert answer.status_code == answers[ROLES.index(role)], getattr(answer, "content", b"")
    recorded = AuditEntry.objects.filter(action__endswith="_refused").count() - before
    # Whoever is refused a change, or an export, leaves a trace; asking for the proof changes nothing.
    refused = answer.status_code in ({403} if method == "get" else {403, 409})
    assert recorded == (refused and (method != "get" or route.endswith((".csv", "evidence/"))))


@pytest.mark.parametrize(("method", "route"), MATRIX)
def test_a_stranger_is_told_to_sign_in(method: str, route: str, names: dict[str, str], stranger_api: APIClient) -> None:
    answer = getattr(stranger_api, method)(f"/{API}{route.format(own=names['key'], **names)}", {"nonsense": 1})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_every_route_of_the_api_is_in_the_table(names: dict[str, str]) -> None:
    resolve = get_resolver().resolve
    covered = {(resolve(f"/{API}{route.format(own=names['key'], **names)}").route, method) for method, route in MATRIX}
    assert set(routes()) == covered


def test_every_operation_of_the_description_is_in_the_table(names: dict[str, str]) -> None:
    """Said in the words of the description: an operation without a row fails, and a row without an operation."""
    described = {(method, _shape(path)) for path, methods in schema()["paths"].items() for method in methods}
    covered = {(method, _shape(f"/{API}{route}".replace("payments", "{slug}"))) for method, route in MATRIX}
    # The table has one event that is not there.
    assert {
        (method, path.replace("usage-events/987654321/", "usage-events/{}/")) for method, path in covered
    } == described


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_every_permission_is_some_roles() -> None:
    assert all(roles and roles <= set(Role) for roles in PERMISSIONS.values())


def routes() -> Iterator[tuple[str, str]]:
    """Yield every route below /api/v1/ with each method it has, but HEAD."""
    for route, pattern in _patterns(get_resolver(), ""):
        if route.startswith(API):
            methods = getattr(pattern.callback, "actions", None) or {"get": "get"}
            yield from ((route, method) for method in methods if method != "head")


def _patterns(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern).removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, route)
        else:
            yield route, pattern

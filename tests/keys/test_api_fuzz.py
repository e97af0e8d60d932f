"""Whatever is sent, the answer is never a 5xx, and what is refused changes nothing."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from access.models import Member
from access.throttles import AccessKeyThrottle
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member

pytestmark = pytest.mark.django_db

words = st.text(max_size=40)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=True, allow_infinity=True),
    words,
    st.sampled_from(["payments", "2030-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00", "10.0.0.0/8", "::/0", "report"]),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.uuids().map(str),
)
values = st.recursive(leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(words, below, max_size=3))
FIELDS: Final = {
    "/api/v1/gateway-keys/": ["name", "description", "consumer_group", "expires_at", "allowed_networks"],
    "/api/v1/gateway-keys/{key}/": ["name", "description", "consumer_group", "expires_at", "allowed_networks"],
    "/api/v1/gateway-keys/{key}/rotate/": ["grace_seconds", "renew_expiry"],
    "/api/v1/gateway-keys/{key}/revoke/": ["reason"],
    "/api/v1/gateway-keys/bulk-revoke/": ["ids", "reason", "all_or_nothing"],
    "/api/v1/gateway-keys/bulk-rotate/": ["ids", "grace_seconds", "renew_expiry", "all_or_nothing"],
    "/api/v1/gateway-keys/bulk-edit/": ["ids", "changes", "all_or_nothing"],
    "/api/v1/consumer-groups/": ["name", "slug", "managers", "max_lifetime_days", "idle_days", "max_grace_seconds"],
    "/api/v1/consumer-groups/payments/": ["name", "expiry_required", "default_lifetime_days", "allowed_networks"],
    "/api/v1/gateways/": ["name", "usage_source", "consumer_groups", "require_group", "client_address"],
    "/api/v1/gateways/{gateway}/rotate-token/": ["overlap_seconds"],
    "/api/v1/access-keys/": ["name", "expires_at"],
}
QUERIED: Final = {
    "/api/v1/gateway-keys/": ["status", "consumer_group", "expires_before", "unused_for_days", "search", "ordering"],
    "/api/v1/usage-events/": ["key", "status_class", "occurred_after", "model", "search", "page", "page_size"],
    "/api/v1/audit-entries/": ["action", "actor", "object_id", "at_before", "search", "ordering", "page"],
    "/api/v1/gateway-keys/export.csv": ["never_used", "expiring_within_days", "search", "created_after"],
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    path = draw(st.sampled_from(sorted(FIELDS)))
    names = st.sampled_from(FIELDS[path]) | words
    return path, draw(st.dictionaries(names, values, max_size=5))


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    path = draw(st.sampled_from(sorted(QUERIED)))
    said = leaves.map(str) | words
    return path, draw(st.dictionaries(st.sampled_from(QUERIED[path]), said, max_size=3))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(AccessKeyThrottle, "THROTTLE_RATES", {"access_key": None})
    make_group("payments")
    admin: Member = make_member("admin")
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {make_access_key(admin).value}")


fuzzed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@fuzzed
@given(request=requests(), once=st.booleans())
def test_no_body_makes_a_5xx(client: APIClient, request: tuple[str, Any], once: bool) -> None:
    path, body = request
    key = make_key().key
    place = path.format(key=key.pk, gateway=make_gateway().gateway.pk)
    method = "PATCH" if place.endswith((f"/{key.pk}/", "payments/")) else "POST"
    headers = {"HTTP_IDEMPOTENCY_KEY": "k"} if once else {}
    sent: Any = json.dumps(body).encode()
    answer = client.generic(method, place, sent, "application/json", **headers)  # type: ignore[arg-type]  # headers
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400:
        assert set(answer.json()) >= {"code", "detail", "fields"}


@fuzzed
@given(query=queries())
def test_no_query_makes_a_5xx(client: APIClient, query: tuple[str, dict[str, str]]) -> None:
    path, parameters = query
    answer = client.get(path, {name: text.encode("utf-8", "replace") for name, text in parameters.items()})
    assert answer.status_code < 500
    if answer.status_code == 400:
        assert set(answer.json()["fields"]) <= set(parameters)

"""The OpenAPI description and the pages that show it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import call_command
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def schema(stranger_api: APIClient) -> dict[str, Any]:
    answer: dict[str, Any] = stranger_api.get("/api/schema/").json()
    return answer


@pytest.mark.once
def test_the_description_is_made_without_a_warning(tmp_path: Any) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_it_describes_every_route_of_the_design(schema: dict[str, Any]) -> None:
    routes = {path.removeprefix("/api/v1/"): set(methods) for path, methods in schema["paths"].items()}
    verbs = ("rotate", "end-grace", "extend-grace", "disable", "enable", "revoke")
    assert routes == {
        "me/": {"get"},
        "access-keys/": {"get", "post"},
        "access-keys/{id}/": {"get"},
        "access-keys/{id}/revoke/": {"post"},
        "consumer-groups/": {"get", "post"},
        "consumer-groups/{slug}/": {"get", "patch"},
        "consumer-groups/{slug}/policy-preview/": {"post"},
        "policy/": {"get", "patch"},
        "policy/preview/": {"post"},
        "gateway-keys/": {"get", "post"},
        "gateway-keys/{id}/": {"get", "patch"},
        **{f"gateway-keys/{{id}}/{verb}/": {"post"} for verb in verbs},
        "gateway-keys/{id}/metrics/": {"get"},
        "gateway-keys/bulk-revoke/": {"post"},
        "gateway-keys/export.csv": {"get"},
        "gateways/": {"get", "post"},
        "gateways/{id}/": {"get", "patch"},
        "gateways/{id}/rotate-token/": {"post"},
        "usage-events/": {"get"},
        "usage-events/{id}/": {"get"},
        "usage-events/export.csv": {"get"},
        "audit-entries/": {"get"},
        "audit-entries/{id}/": {"get"},
        "audit-entries/export.csv": {"get"},
        "audit-entries/verify/": {"get"},
    }


def test_it_says_how_errors_look_and_how_to_ask_once(schema: dict[str, Any]) -> None:
    create = schema["paths"]["/api/v1/gateway-keys/"]["post"]
    assert {"201", "400", "401", "403", "409", "413", "415", "422", "429", "503"} <= set(create["responses"])
    error = create["responses"]["409"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/Error"}
    assert set(schema["components"]["schemas"]["Error"]["properties"]) == {"code", "detail", "fields"}
    for methods in schema["paths"].values():
        if "post" in methods:
            assert "Idempotency-Key" in [parameter["name"] for parameter in methods["post"]["parameters"]]
    edit = schema["paths"]["/api/v1/gateway-keys/{id}/"]["patch"]
    assert "If-Match" in [parameter["name"] for parameter in edit["parameters"]]
    assert {"404", "412"} <= set(edit["responses"])


def test_it_says_what_lists_and_exports_take(schema: dict[str, Any]) -> None:
    listed = {p["name"] for p in schema["paths"]["/api/v1/gateway-keys/"]["get"]["parameters"]}
    exported = schema["paths"]["/api/v1/gateway-keys/export.csv"]["get"]
    assert {"status", "consumer_group", "unused_for_days", "search", "ordering", "page", "page_size"} <= listed
    assert {p["name"] for p in exported["parameters"]} == listed - {"page", "page_size"}
    assert "text/csv" in exported["responses"]["200"]["content"]


def test_the_description_comes_as_yaml_too(stranger_api: APIClient) -> None:
    answer = stranger_api.get("/api/schema/", HTTP_ACCEPT="application/yaml")
    assert yaml.safe_load(answer.content)["openapi"].startswith("3.1")


def test_the_pages_need_nothing_from_elsewhere_and_no_inline_script(stranger_api: APIClient) -> None:
    page = stranger_api.get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "http://" not in text.replace("http://testserver", "")
    assert "https://" not in text
    assert text.count("<script") == text.count('<script src="')
    script = stranger_api.get("/api/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert b"/api/schema/" in script.content

"""The OpenAPI description and the pages that show it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import call_command
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
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
    endpoint_verbs = ("rotate-secret", "test", "redeliver", "disable", "enable")
    assert routes == {
        "me/": {"get", "patch"},
        "access-keys/": {"get", "post"},
        "access-keys/{id}/": {"get", "patch"},
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
        "gateway-keys/find/": {"post"},
        "members/": {"get", "post"},
        "members/{id}/": {"get", "patch"},
        "members/{id}/invite-again/": {"post"},
        "members/{id}/withdraw-invitation/": {"post"},
        "members/{id}/take-out/": {"post"},
        "members/{id}/let-in/": {"post"},
        "gateway-keys/bulk-rotate/": {"post"},
        "gateway-keys/bulk-edit/": {"post"},
        "gateway-keys/export.csv": {"get"},
        "gateways/": {"get", "post"},
        "gateways/{id}/": {"get", "patch"},
        "gateways/{id}/rotate-token/": {"post"},
        "webhook-endpoints/": {"get", "post"},
        "webhook-endpoints/{id}/": {"get", "patch"},
        **{f"webhook-endpoints/{{id}}/{verb}/": {"post"} for verb in endpoint_verbs},
        "webhook-endpoints/{endpoint_id}/deliveries/": {"get"},
        "webhook-endpoints/{endpoint_id}/deliveries/{id}/": {"get"},
        "webhook-endpoints/{endpoint_id}/deliveries/{id}/redeliver/": {"post"},
        "usage-events/": {"get"},
        "usage-events/{id}/": {"get"},
        "usage-events/export.csv": {"get"},
        "usage-days/export.csv": {"get"},
        "reports/access-review/": {"get"},
        "reports/access-review/export.csv": {"get"},
        "reports/access-review/team.csv": {"get"},
        "reports/rotation-compliance/": {"get"},
        "reports/rotation-compliance/export.csv": {"get"},
        "audit-entries/": {"get"},
        "audit-entries/{id}/": {"get"},
        "audit-entries/export.csv": {"get"},
        "audit-entries/verify/": {"get"},
        "audit-entries/checkpoint/": {"get"},
        "audit-entries/evidence/": {"get"},
        "denials/{decision_id}/": {"get"},
    }


def test_it_says_how_errors_look_and_how_to_ask_once(schema: dict[str, Any]) -> None:
    create = schema["paths"]["/api/v1/gateway-keys/"]["post"]
    assert {"201", "400", "401", "403", "409", "413", "415", "422", "429", "503"} <= set(create["responses"])
    error = create["responses"]["409"]["content"]["application/json"]["schema"]
    assert error["allOf"][0] == {"$ref": "#/components/schemas/Error"}
    assert "already_processed" in error["allOf"][1]["properties"]["code"]["enum"]
    assert set(schema["components"]["schemas"]["Error"]["properties"]) == {"code", "detail", "fields"}
    for path, methods in schema["paths"].items():
        if "post" in methods:
            once = "Idempotency-Key" in [parameter["name"] for parameter in methods["post"]["parameters"]]
            # Asking changes nothing.
            asks = path.endswith(("/find/", "preview/"))
            assert once is not asks
            assert ("422" in methods["post"]["responses"]) is once
    edit = schema["paths"]["/api/v1/gateway-keys/{id}/"]["patch"]
    assert "If-Match" in [parameter["name"] for parameter in edit["parameters"]]
    assert {"404", "412"} <= set(edit["responses"])
    assert "ETag" in edit["responses"]["412"]["headers"]
    for kind in ("gateway-keys/{id}", "consumer-groups/{slug}", "gateways/{id}", "members/{id}", "policy"):
        one = schema["paths"][f"/api/v1/{kind}/"]
        assert "If-None-Match" in [parameter["name"] for parameter in one["get"]["parameters"]]
        assert "content" not in one["get"]["responses"]["304"]
        assert "ETag" in one["patch"]["responses"]["200"]["headers"]


def test_it_names_the_conflicts_of_each_operation(schema: dict[str, Any]) -> None:
    def codes(path: str, method: str = "post") -> set[str]:
        answer = schema["paths"][f"/api/v1/{path}/"][method]["responses"]["409"]
        return set(answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"])

    once = {"already_processed", "in_progress", "conflict"}
    assert codes("gateway-keys/{id}/rotate") == once | {"key_revoked", "key_expired", "key_disabled"}
    assert codes("gateway-keys/bulk-edit") == once | {"nothing_done"}
    assert codes("policy", "patch") == {"policy_breaks_keys", "conflict"}
    assert codes("members/{id}/take-out") == once | {"last_admin"}
    assert codes("webhook-endpoints/{id}/enable") == once | {"not_disabled"}


def test_it_says_what_keeps_an_export_from_beginning(schema: dict[str, Any]) -> None:
    for path, methods in schema["paths"].items():
        if not path.endswith(".csv"):
            continue
        answers = methods["get"]["responses"]
        assert "Content-Disposition" in answers["200"]["headers"]
        for status, code in (("429", "too_many_exports"), ("503", "exports_busy")):
            told = answers[status]["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert code in told, (path, status)


def test_it_says_what_lists_and_exports_take(schema: dict[str, Any]) -> None:
    listed = {p["name"] for p in schema["paths"]["/api/v1/gateway-keys/"]["get"]["parameters"]}
    exported = schema["paths"]["/api/v1/gateway-keys/export.csv"]["get"]
    assert {"status", "consumer_group", "unused_for_days", "search", "ordering", "page", "page_size"} <= listed
    assert {p["name"] for p in exported["parameters"]} == listed - {"page", "page_size", "cursor"}
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


@pytest.mark.once
def test_the_description_is_openapi_3_1(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1")
    validate(schema)


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in schema["paths"].items() for method, one in methods.items()]


@pytest.mark.once
def test_every_operation_has_examples_that_its_schemas_allow(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for kind, media in body.get("content", {}).items():
                if kind == "application/json":
                    rules = {**media["schema"], "components": schema["components"]}
                    OAS31Validator(rules).validate(media["example"])
        assert operation["description"], (path, method)


def test_every_answer_names_its_headers(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        for status, answer in operation["responses"].items():
            assert {"RateLimit", "RateLimit-Policy"} <= set(answer["headers"]), (path, method, status)
            assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
            assert ("WWW-Authenticate" in answer["headers"]) == (status == "401")
            assert ("Location" in answer["headers"]) == (status == "201")
    key = schema["paths"]["/api/v1/gateway-keys/{id}/"]
    assert "ETag" in key["get"]["responses"]["200"]["headers"]


def test_every_operation_names_its_roles(schema: dict[str, Any]) -> None:
    rotate = schema["paths"]["/api/v1/gateway-keys/{id}/rotate/"]["post"]
    assert (rotate["x-keeptrusts-roles"], rotate["x-keeptrusts-read-only"]) == (["admin", "manager"], False)
    assert rotate["description"].endswith("Roles: Admin, Manager.")
    export = schema["paths"]["/api/v1/audit-entries/export.csv"]["get"]
    assert (export["x-keeptrusts-roles"], export["x-keeptrusts-read-only"]) == (["admin", "auditor"], True)


def test_what_is_created_is_found_at_its_location(admin_api: APIClient) -> None:
    for path, body in (
        ("/api/v1/consumer-groups/", {"name": "x", "slug": "x"}),
        ("/api/v1/gateway-keys/", {"name": "x"}),
        ("/api/v1/gateways/", {"name": "x"}),
        ("/api/v1/access-keys/", {"name": "x"}),
    ):
        made = admin_api.post(path, body)
        found = admin_api.get(made["Location"])
        assert (found.status_code, found.json()["id"]) == (200, made.json()["id"])

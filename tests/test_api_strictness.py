"""Every operation in the permission matrix of the API: nothing unknown is ignored, and every error has one shape."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from rest_framework.test import APIClient

from access.models import AccessKey
from tests.test_permission_matrix import MATRIX, names  # noqa: F401  # a fixture

API: Final = "/api/v1/"
CHANGES: Final = sorted(operation for operation in MATRIX if operation[0] in {"post", "patch"})
METHODS: Final = {"get", "post", "put", "patch", "delete", "options", "trace"}


def path_of(route: str, ids: dict[str, str]) -> str:
    own = AccessKey.objects.filter(owner__username="ada.admin").first()
    return API + route.format_map({"own": own.pk if own is not None else ids["key"], **ids})


def assert_is_error(answer: Any, status: int, code: str = "", field: str = "") -> None:
    body = answer.json()
    assert answer.status_code == status, body
    assert answer["Content-Type"] == "application/json"
    assert {"code", "detail", "fields"} <= set(body)
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert code in ("", body["code"])
    for errors in body["fields"].values():
        assert errors
        assert all(set(error) == {"code", "detail"} for error in errors)
    if field:
        assert field in body["fields"], body


@pytest.mark.parametrize(("method", "route"), sorted(MATRIX))
def test_a_parameter_that_is_unknown_is_refused_by_its_name(
    method: str,
    route: str,
    names: dict[str, str],  # noqa: F811  # the fixture
    admin_api: APIClient,
) -> None:
    body = MATRIX[method, route][0]
    answer = admin_api.generic(method.upper(), f"{path_of(route, names)}?nonsense=1", "", "")
    assert_is_error(answer, 400, "validation_error", "nonsense")
    assert answer.json()["fields"]["nonsense"][0]["code"] == "unknown_parameter", body


@pytest.mark.parametrize(("method", "route"), CHANGES)
def test_a_field_that_is_unknown_is_refused_by_its_name(
    method: str,
    route: str,
    names: dict[str, str],  # noqa: F811  # the fixture
    admin_api: APIClient,
) -> None:
    answer = getattr(admin_api, method)(path_of(route, names), {"nonsense": 1})
    assert_is_error(answer, 400, "validation_error", "nonsense")
    assert answer.json()["fields"]["nonsense"][0]["code"] == "unknown_field"


@pytest.mark.parametrize(("method", "route"), CHANGES)
@pytest.mark.parametrize(
    ("sent", "content_type", "status", "code"),
    [
        ("{", "application/json", 400, "not_json"),
        ("[]", "application/json", 400, "not_an_object"),
        ('{"a": 1, "a": 2}', "application/json", 400, "duplicate_name"),
        ("a=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("<a/>", "text/xml", 415, "unsupported_media_type"),
        (f'{{"a": "{"x" * 1_048_577}"}}', "application/json", 413, "body_too_large"),
    ],
    ids=["broken", "list", "twice", "form", "xml", "large"],
)
def test_a_body_that_is_none_has_the_one_shape_of_errors(
    method: str,
    route: str,
    sent: str,
    content_type: str,
    status: int,
    code: str,
    names: dict[str, str],  # noqa: F811  # the fixture
    admin_api: APIClient,
) -> None:
    answer = admin_api.generic(method.upper(), path_of(route, names), sent, content_type)
    assert_is_error(answer, status, code)


@pytest.mark.parametrize("route", sorted({route for _, route in MATRIX}))
def test_other_methods_of_every_path_are_405_and_name_those_that_there_are(
    route: str,
    names: dict[str, str],  # noqa: F811  # the fixture
    admin_api: APIClient,
) -> None:
    known = {method for method, other in MATRIX if other == route}
    for method in METHODS - known:
        answer = admin_api.generic(method.upper(), path_of(route, names))
        assert_is_error(answer, 405, "method_not_allowed")
        assert known <= {allowed.strip().lower() for allowed in answer["Allow"].split(",")}


@pytest.mark.parametrize(("method", "route"), sorted(MATRIX))
@pytest.mark.parametrize("credential", ["Bearer kt_ak_nonsense", "Bearer", "Basic YTpi", "Bearer \xff"])
def test_a_credential_that_is_none_has_it_too(
    method: str,
    route: str,
    credential: str,
    names: dict[str, str],  # noqa: F811  # the fixture
    stranger_api: APIClient,
) -> None:
    stranger_api.credentials(HTTP_AUTHORIZATION=credential)
    answer = getattr(stranger_api, method)(path_of(route, names))
    assert_is_error(answer, 401)
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "route"), [operation for operation in sorted(MATRIX) if "{" in operation[1]])
def test_what_is_not_there_has_it_too(method: str, route: str, admin_api: APIClient) -> None:
    nobody = dict.fromkeys(
        ("key", "gateway", "own", "endpoint", "delivery", "denial"), "00000000-0000-4000-8000-000000000000"
    )
    answer = getattr(admin_api, method)(API + route.format_map({**nobody, "entry": "0", "member": "0"}))
    assert_is_error(answer, 404, "not_found")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "nonsense"])
def test_whatever_is_accepted_errors_are_json(accept: str, admin_api: APIClient) -> None:
    assert_is_error(admin_api.get(f"{API}gateway-keys/?nonsense=1", HTTP_ACCEPT=accept), 400)


@pytest.mark.parametrize(
    "parameter",
    [
        *("gateway-keys/?consumer_group=", "gateway-keys/export.csv?owner=", "gateway-keys/?status=active&status="),
        *(
            "usage-events/?outcome=",
            "usage-events/?key=",
            "usage-days/export.csv?day_from=",
            "usage-days/export.csv?key=",
        ),
        *("audit-entries/?action=", "audit-entries/export.csv?at_after=", "access-keys/?owner=", "members/?state="),
        *("gateways/?consumer_group=", "reports/access-review/?consumer_group=", "reports/rotation-compliance/?days="),
        *("reports/access-review/export.csv?consumer_group=", "gateway-keys/?never_used=", "gateway-keys/?page_size="),
    ],
)
def test_an_empty_filter_is_refused_and_does_not_show_everything(parameter: str, admin_api: APIClient) -> None:
    name = parameter.rpartition("?")[2].partition("=")[0]
    assert_is_error(admin_api.get(f"{API}{parameter}"), 400, "validation_error", name)


def test_a_list_names_what_it_could_be_ordered_by(admin_api: APIClient) -> None:
    paths = [route for method, route in MATRIX if method == "get" and re.fullmatch(r"[a-z-]+/", route)]
    lists = [route for route in paths if route not in {"me/", "policy/"}]
    for route in lists:
        answer = admin_api.get(f"{API}{route}?ordering=nonsense")
        assert_is_error(answer, 400, "validation_error", "ordering")
        assert "Order by" in answer.json()["fields"]["ordering"][0]["detail"]


@pytest.mark.parametrize(
    ("parameter", "among"),
    [
        ("gateway-keys/?status=lost", "One of revoked, expired"),
        ("usage-events/?outcome=lost", "One of "),
        ("usage-events/?reason=lost", "key_revoked"),
        ("usage-events/?status_class=9xx", "One of 1xx, 2xx"),
        ("audit-entries/?action=lost", "gateway_key.created"),
        ("audit-entries/?actor_kind=lost", "One of member, system"),
        ("gateways/?usage_source=lost", "One of authorize, report"),
    ],
)
def test_a_value_that_is_unknown_is_refused_with_those_that_there_are(
    parameter: str, among: str, admin_api: APIClient
) -> None:
    answer = admin_api.get(f"{API}{parameter}")
    name = parameter.partition("?")[2].partition("=")[0]
    assert_is_error(answer, 400, "validation_error", name)
    error = answer.json()["fields"][name][0]
    assert error["code"] == "invalid_choice"
    assert among in error["detail"]

"""Bodies, parameters and paths that mean nothing, or two things: each is a clear 4xx, never a 5xx."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.test import RequestFactory
from rest_framework.test import APIClient

from access.parsers import MOST_LEVELS
from access.viewsets import _measure
from keys.models import GatewayKey
from tests.factories import make_key

pytestmark = pytest.mark.django_db
KEYS = "/api/v1/gateway-keys/"
NOBODY = str(UUID(int=0))


def send(client: APIClient, body: Any, content_type: str = "application/json", path: str = KEYS) -> Any:
    return client.generic("POST", path, body, content_type)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "validation_error"),
        (b" ", "not_json"),
        (b"{", "not_json"),
        (b'{"name": "a"} x', "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"name": "\xff"}', "not_utf8"),
        (b'{"name": NaN}', "not_json"),
        (b'{"name": -Infinity}', "not_json"),
        (b'{"name": 1e999}', "not_json"),
        (b'{"name": ' + b"9" * 5_000 + b"}", "not_json"),
        (b'{"name": "a", "name": "b"}', "duplicate_name"),
        (b'{"name": {"a": 1, "a": 2}}', "duplicate_name"),
        (b'{"name": "a\\u0000b"}', "null_characters_not_allowed"),
        (b'{"na\\u0000me": 1}', "null_characters_not_allowed"),
        (b'{"name": "a\x00b"}', "not_json"),
        (b'{"name": "\\ud800"}', "surrogate_characters_not_allowed"),
        (b'{"\\uDC00": 1}', "surrogate_characters_not_allowed"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"name"', "not_an_object"),
        (b'{"a":' * (MOST_LEVELS + 1) + b"1" + b"}" * (MOST_LEVELS + 1), "too_deep"),
        (b'{"a":' + b"[" * 400_000, "too_deep"),
        (b'{"name": "' + b"x" * 1_048_576 + b'"}', "body_too_large"),
    ],
    ids=range(23),
)
def test_a_body_that_is_not_one_clear_object_is_refused(admin_api: APIClient, body: bytes, code: str) -> None:
    answer = send(admin_api, body)
    assert answer.json()["code"] == code
    assert answer.status_code == (413 if code == "body_too_large" else 400)
    assert not GatewayKey.objects.exists()


def test_whole_surrogate_pairs_are_characters(admin_api: APIClient) -> None:
    assert send(admin_api, b'{"name": "\\ud83d\\udd11 key"}').json()["name"] == "\U0001f511 key"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_415(admin_api: APIClient, content_type: str) -> None:
    answer = send(admin_api, b'{"name": "a"}', content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_an_empty_form_is_no_body_and_its_absent_flags_are_not_false(admin_api: APIClient) -> None:
    key = make_key().key
    answer = send(admin_api, b"", "application/x-www-form-urlencoded", f"{KEYS}{key.pk}/rotate/")
    assert answer.status_code == 200


def test_a_body_sent_in_chunks_without_its_length_is_read() -> None:
    request = RequestFactory().generic("POST", KEYS, b'{"name": "a"}', "application/json")
    assert isinstance(request, WSGIRequest)
    request.META.pop("CONTENT_LENGTH")
    _measure(request)
    assert request.body == b'{"name": "a"}'
    assert request.META["CONTENT_LENGTH"] == "13"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "colour": "red"},
        {"name": "a", "value": "kt_gk_x"},
        {"name": "a", "id": NOBODY},
        {"name": "a", "status": "revoked"},
        {"name": "a", "": 1},
    ],
)
def test_a_field_that_cannot_be_set_is_refused_by_name(admin_api: APIClient, body: dict[str, Any]) -> None:
    answer = admin_api.post(KEYS, body)
    (unknown,) = set(body) - {"name"}
    assert answer.status_code == 400
    assert answer.json()["fields"][unknown or "non_field_errors"][0]["code"] == "unknown_field"


WRONG: dict[str, list[Any]] = {
    "name": [None, 1, 1.5, True, [], {}, "", "   ", "x" * 10_000, "a\nb", "a\x07b"],
    "description": [None, 1, True, [], "x" * 2_001, "a\x1bb"],
    "consumer_group": [1, True, [], {}, "", "nobody", "x" * 10_000, "é"],
    "expires_at": [
        *(0, 1.5, True, [], {}, "", "soon", "2030-01-31", "2030-01-31T12:00:00", "2030-13-01T00:00:00Z"),
        *("2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
        *("99999-01-01T00:00:00Z", "2030-01-01T00:00:00+99:99", "x" * 10_000),
    ],
    "allowed_networks": [
        *(None, 1, "10.0.0.0/8", {}, [1], [None], [[]], [""], ["10.0.0.0/33"], ["10.0.0.1/8"], ["::/129"]),
        *(["fe80::1%eth0/64"], ["x" * 600], ["10.0.0.0/8"] * 1_001, [f"10.0.{n}.0/24" for n in range(101)]),
    ],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_value_that_does_not_fit_is_refused_at_its_field(admin_api: APIClient, field: str, value: Any) -> None:
    key = make_key().key
    for answer in (
        admin_api.post(KEYS, {"name": "a", field: value}),
        admin_api.patch(f"{KEYS}{key.pk}/", {field: value}),
    ):
        assert answer.status_code == 400, answer.content
        assert any(name.split(".")[0] == field for name in answer.json()["fields"]), answer.json()
    assert GatewayKey.objects.count() == 1


WRONG_FOR_VERBS: list[tuple[str, str, list[Any]]] = [
    ("rotate", "grace_seconds", [-1, 10**30, 2**63, 1.5, "5", True, []]),
    ("rotate", "renew_expiry", ["true", 1, 0, None, []]),
    ("revoke", "reason", [None, 1, "x" * 501, "a\x01b"]),
    *((verb, "reason", ["x"]) for verb in ("disable", "enable", "end-grace")),
]


@pytest.mark.parametrize(
    ("verb", "field", "value"), [(verb, field, value) for verb, field, values in WRONG_FOR_VERBS for value in values]
)
def test_a_verb_takes_only_what_it_knows(admin_api: APIClient, verb: str, field: str, value: Any) -> None:
    answer = admin_api.post(f"{KEYS}{make_key().key.pk}/{verb}/", {field: value})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [field]


def test_a_secret_as_a_name_is_refused(admin_api: APIClient) -> None:
    answer = admin_api.post(KEYS, {"name": f"copy of {make_key().value}"})
    assert answer.json()["fields"]["name"][0]["code"] == "secret_value"


@pytest.mark.parametrize(
    "path",
    [
        *(f"{KEYS}{name}/" for name in ("nope", "1", "%00", "%ff", "..%2f", "x" * 5_000, "g" * 36, "-" * 36, NOBODY)),
        *(f"{KEYS}{name}/metrics/" for name in ("nope", NOBODY)),
        *(f"/api/v1/{name}/" for name in ("consumer-groups/%00", "consumer-groups/nobody", "gateways/1", "nothing")),
        *(f"/api/v1/{name}/" for name in ("usage-events/0", "usage-events/999999999999999999", "audit-entries/x")),
        *("/api/v1/audit-entries/999999999999999999/", "/api/", "/api/v1/", "/api/v2/me/", "/api/v1/me"),
    ],
)
def test_a_path_that_leads_nowhere_is_404_in_json(admin_api: APIClient, path: str) -> None:
    answer = admin_api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.content


@pytest.mark.parametrize("verb", ["rotate", "end-grace", "disable", "enable", "revoke"])
def test_verbs_of_a_key_that_is_not_there_are_404(admin_api: APIClient, verb: str) -> None:
    for name in (NOBODY, "-" * 36, "%00" * 12):
        assert admin_api.post(f"{KEYS}{name}/{verb}/", HTTP_IDEMPOTENCY_KEY="k").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        *("colour=red", "format=xml", "page=0", "page=-1", "page=x", "page=1.5", "page=", "page=%00"),
        *("page=" + "9" * 5_000, "page=٣", "page_size=0", "page_size=501", "page_size=x", "page=1&page=2"),
        *("status=gone", "status=active&status=", "consumer_group=%00", "consumer_group=" + "x" * 300),
        *("unscoped=yes", "unscoped=1", "never_used=%00", "no_expiry=True"),
        *("expires_before=tomorrow", "expires_after=2030-01-01", "created_before=9999-12-31T23:59:59-23:59"),
        *("created_after=2030-01-01T00:00:00", "last_used_before=%00"),
        *(f"{name}={value}" for name in ("expiring_within_days", "unused_for_days") for value in (0, -1, "x", 10**30)),
        *("search=%00", "search=" + "x" * 201, "search=" + "+".join("abcdefghijk"), "search=a&search=b"),
        *("ordering=colour", "ordering=", "ordering=name,", "ordering=metrics__requests_24h", "ordering=%00"),
    ],
)
def test_a_parameter_that_means_nothing_is_400_by_its_name(admin_api: APIClient, query: str) -> None:
    answer = admin_api.get(f"{KEYS}?{query}")
    assert answer.status_code == 400, answer.content
    assert list(answer.json()["fields"]) == [query.partition("=")[0]]


def test_parameters_of_one_key_are_refused_too(admin_api: APIClient) -> None:
    assert admin_api.get(f"{KEYS}{make_key().key.pk}/?status=active").status_code == 400


def test_a_page_that_does_not_exist_is_404(admin_api: APIClient) -> None:
    assert admin_api.get(f"{KEYS}?page=2").status_code == 404
    assert admin_api.get(f"{KEYS}?page=999999999").status_code == 404


def test_too_many_parameters_are_400(admin_api: APIClient) -> None:
    answer = admin_api.get(KEYS + "?" + "&".join(f"a{n}=1" for n in range(2_001)))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("accept", ["text/csv", "text/html", "application/xml", "*/*", "nonsense"])
def test_whatever_accept_says_the_answer_is_json(admin_api: APIClient, accept: str) -> None:
    answer = admin_api.get(KEYS, HTTP_ACCEPT=accept)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("method", ["put", "delete", "options", "trace"])
def test_other_methods_are_405(admin_api: APIClient, method: str) -> None:
    for path in (KEYS, f"{KEYS}{make_key().key.pk}/", "/api/v1/me/", "/api/v1/audit-entries/"):
        answer = admin_api.generic(method.upper(), path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("ids", "field"),
    [
        (None, "ids"),
        ("x", "ids"),
        ([], "ids"),
        ([1], "ids.0"),
        (["x"], "ids.0"),
        ([NOBODY, None], "ids.1"),
        ([str(UUID(int=n)) for n in range(1_001)], "ids"),
        ([str(UUID(int=n)) for n in range(10_000)], "ids"),
    ],
    ids=range(8),
)
def test_ids_of_many_keys_are_checked_before_anything_is_done(admin_api: APIClient, ids: Any, field: str) -> None:
    answer = admin_api.post(f"{KEYS}bulk-revoke/", {"ids": ids})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [field]

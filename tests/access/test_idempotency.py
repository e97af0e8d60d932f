"""A change asked for twice under one Idempotency-Key happens once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import time_machine
from django.db import connection
from rest_framework.test import APIClient

from access.idempotency import KEPT_FOR, forget
from access.models import IdempotencyRecord, Member
from access.tasks import forget_idempotency
from audit import clock
from audit.models import AuditEntry
from gateways.models import Gateway
from keys import lifecycle
from keys.models import GatewayKey, KeyVersion
from tests.factories import TESTS, make_key
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
KEYS = "/api/v1/gateway-keys/"


def post(client: APIClient, path: str, body: Any = None, key: str = "one") -> Any:
    return client.post(path, body, HTTP_IDEMPOTENCY_KEY=key)


def test_a_repeated_create_makes_one_key_and_shows_the_value_once(admin_api: APIClient) -> None:
    first, second = (post(admin_api, KEYS, {"name": "a"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json()["code"] == "already_processed"
    assert (second.json()["id"], second.json()["version"]) == (first.json()["id"], 1)
    assert first.json()["value"] not in second.content.decode()
    assert GatewayKey.objects.count() == 1
    assert AuditEntry.objects.filter(action="gateway_key.created").count() == 1


def test_a_repeated_rotation_rotates_once_and_names_the_version(admin_api: APIClient) -> None:
    key = make_key().key
    first, second = (post(admin_api, f"{KEYS}{key.pk}/rotate/", {"grace_seconds": 60}) for _ in range(2))
    assert first.status_code == 200
    assert (second.status_code, second.json()["version"]) == (409, 2)
    assert KeyVersion.objects.filter(key=key).count() == 2


def test_a_repeat_without_a_secret_answers_as_the_first_did(admin_api: APIClient) -> None:
    key = make_key().key
    first = post(admin_api, f"{KEYS}{key.pk}/disable/")
    second = post(admin_api, f"{KEYS}{key.pk}/disable/")
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json()
    assert second["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.filter(action="gateway_key.disabled").count() == 1


def test_another_body_under_the_same_key_is_422(admin_api: APIClient) -> None:
    post(admin_api, KEYS, {"name": "a"})
    answer = post(admin_api, KEYS, {"name": "b"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert GatewayKey.objects.count() == 1


def test_member_path_and_key_each_make_another_request(api: ApiOf, admin: Member, manager: Member) -> None:
    admins = api(admin)
    keys = [make_key().key for _ in range(2)]
    answers = [
        post(admins, KEYS, {"name": "a"}),
        post(admins, KEYS, {"name": "a"}, key="two"),
        post(api(manager), KEYS, {"name": "a"}),
        *(post(admins, f"{KEYS}{key.pk}/disable/") for key in keys),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 200, 200]


def test_a_member_is_one_whatever_credential_they_use(api: ApiOf, admin: Member) -> None:
    assert [post(api(admin), KEYS, {"name": "a"}).status_code for _ in range(2)] == [201, 409]


def test_a_refused_request_is_recorded_and_may_be_repeated(api: ApiOf, admin: Member) -> None:
    client, key = api(admin), make_key().key
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    assert post(client, f"{KEYS}{key.pk}/rotate/").status_code == 409
    lifecycle.enable(actor=TESTS, key_id=key.pk)
    assert post(client, f"{KEYS}{key.pk}/rotate/").status_code == 200
    refusal = AuditEntry.objects.get(action="gateway_key.rotate_refused")
    assert (refusal.object_id, refusal.detail) == (str(key.pk), {"code": "key_disabled"})


def test_nothing_is_remembered_where_nothing_was_done(admin_api: APIClient) -> None:
    assert post(admin_api, KEYS, {"name": ""}).status_code == 400
    assert not IdempotencyRecord.objects.exists()


def test_no_secret_is_remembered(admin_api: APIClient) -> None:
    value = post(admin_api, KEYS, {"name": "a"}).json()["value"]
    token = post(admin_api, "/api/v1/gateways/", {"name": "g"}).json()["token"]
    kept = str(list(IdempotencyRecord.objects.values_list("body", flat=True)))
    assert value[10:] not in kept
    assert token[10:] not in kept
    assert post(admin_api, "/api/v1/gateways/", {"name": "g"}).json()["id"] == str(Gateway.objects.get().pk)


def test_after_a_day_it_is_forgotten(api: ApiOf, admin: Member) -> None:
    client = api(admin)
    start = clock.now()
    post(client, KEYS, {"name": "a"})
    with time_machine.travel(start + KEPT_FOR - timedelta(minutes=1)):
        assert post(client, KEYS, {"name": "a"}).status_code == 409
        forget_idempotency()
    with time_machine.travel(start + KEPT_FOR + timedelta(minutes=1)):
        assert post(client, KEYS, {"name": "a"}).status_code == 201
        assert IdempotencyRecord.objects.count() == 1
    with time_machine.travel(start + 3 * KEPT_FOR):
        forget_idempotency()
    assert not IdempotencyRecord.objects.exists()


def test_all_that_is_old_is_forgotten_however_much_it_is(admin_api: APIClient) -> None:
    for number in range(7):
        post(admin_api, KEYS, {"name": "a"}, key=f"key-{number}")
    with time_machine.travel(clock.now() + 2 * KEPT_FOR):
        assert forget(batch=3) == 7
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256])
def test_a_key_that_is_none_is_refused(admin_api: APIClient, key: str) -> None:
    answer = post(admin_api, KEYS, {"name": "a"}, key=key)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["Idempotency-Key"]


def test_an_oversized_body_is_413_with_a_key_too(admin_api: APIClient) -> None:
    assert post(admin_api, KEYS, {"name": "x" * 1_100_000}).status_code == 413


def test_a_failure_half_way_leaves_neither_effect_nor_record(admin_api: APIClient) -> None:
    with mock.patch.object(IdempotencyRecord.objects, "create", side_effect=RuntimeError), pytest.raises(RuntimeError):
        post(admin_api, KEYS, {"name": "a"})
    assert not GatewayKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one_key(api: ApiOf, admin: Member) -> None:
    client = api(admin)

    def create(_: int) -> tuple[int, str]:
        try:
            answer = post(client, KEYS, {"name": "a"})
            return answer.status_code, answer.json().get("code", "")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    assert answers.count((201, "")) == 1
    assert {code for _, code in answers} <= {"", "already_processed", "in_progress"}
    assert GatewayKey.objects.count() == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_while_the_first_still_runs_the_second_is_told_so(api: ApiOf, admin: Member) -> None:
    client = api(admin)
    seen: list[Any] = []

    def meanwhile(create: Callable[..., Any]) -> Callable[..., Any]:
        def slow(**particulars: Any) -> Any:
            with ThreadPoolExecutor(1) as thread:
                seen.append(thread.submit(second).result())
            return create(**particulars)

        return slow

    def second() -> tuple[int, str]:
        try:
            answer = post(client, KEYS, {"name": "a"})
            return answer.status_code, answer.json()["code"]
        finally:
            connection.close()

    with mock.patch.object(lifecycle, "create", meanwhile(lifecycle.create)):
        assert post(client, KEYS, {"name": "a"}).status_code == 201
    assert seen == [(409, "in_progress")]

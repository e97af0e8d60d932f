"""How many requests a caller may make, and what becomes of those that are too many."""

from __future__ import annotations

from unittest import mock

import pytest
from django.core.cache import cache
from redis import RedisError
from rest_framework.settings import api_settings
from rest_framework.test import APIClient

from access.models import Member
from access.throttles import AccessKeyThrottle, AddressThrottle
from audit.actions import AuditAction
from audit.models import AuditEntry
from tests.factories import make_key
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
ME = "/api/v1/me/"


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"access_key": "3/m", "address": "2/m"}
    monkeypatch.setattr(AccessKeyThrottle, "THROTTLE_RATES", rates)
    monkeypatch.setattr(AddressThrottle, "THROTTLE_RATES", rates)
    cache.clear()


@pytest.mark.usefixtures("_slow")
def test_too_many_requests_of_one_access_key_are_429_and_say_when_to_come_again(api: ApiOf, admin: Member) -> None:
    busy, other = api(admin), api(admin)
    assert [busy.get(ME).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = busy.get(ME)
    assert answer.json()["code"] == "throttled"
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert other.get(ME).status_code == 200


@pytest.mark.usefixtures("_slow")
def test_strangers_are_counted_by_their_address(api: ApiOf, admin: Member) -> None:
    strangers = [APIClient(REMOTE_ADDR=f"192.0.2.{n}") for n in (1, 2)]
    assert [strangers[0].get("/api/v1/gateway-keys/").status_code for _ in range(3)] == [401, 401, 429]
    assert strangers[0].get("/api/schema/").status_code == 429
    assert strangers[1].get("/api/v1/gateway-keys/").status_code == 401
    # Members behind the same address are none of theirs.
    assert api(admin).get("/api/v1/gateway-keys/", REMOTE_ADDR="192.0.2.1").status_code == 200


@pytest.mark.usefixtures("_slow")
def test_guessing_access_keys_is_throttled() -> None:
    guesser = APIClient(HTTP_AUTHORIZATION="Bearer kt_ak_" + "a" * 32)
    assert [guesser.get(ME).status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.usefixtures("_slow")
def test_attempts_that_the_role_refuses_are_throttled_like_any_other(api: ApiOf, auditor: Member) -> None:
    busy, key = api(auditor), make_key().key
    bodies = [busy.post(f"/api/v1/gateway-keys/{key.pk}/rotate/", {}) for _ in range(5)]
    assert [answer.status_code for answer in bodies] == [403, 403, 403, 429, 429]
    assert AuditEntry.objects.filter(action=AuditAction.KEY_ROTATE_REFUSED).count() == 3


def test_a_script_with_one_access_key_makes_at_least_fifty_a_second() -> None:
    number, period = str(api_settings.DEFAULT_THROTTLE_RATES["access_key"]).split("/")
    assert period == "s"
    assert int(number) >= 50


@pytest.mark.usefixtures("_slow")
def test_without_its_store_nobody_is_throttled(admin_api: APIClient, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch.object(AccessKeyThrottle.cache, "get", side_effect=RedisError):
        assert [admin_api.get(ME).status_code for _ in range(5)] == [200] * 5
    assert "not throttled" in caplog.text

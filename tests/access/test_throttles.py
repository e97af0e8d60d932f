"""How many requests a caller may make, and what becomes of those that are too many."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from django.core.cache import cache
from redis import RedisError
from rest_framework.settings import api_settings
from rest_framework.test import APIClient

from access.models import Member
from access.throttles import AccessKeyThrottle, AddressThrottle, _Throttle
from audit.actions import AuditAction
from audit.models import AuditEntry
from tests.factories import make_key
from tests.fixtures import ApiOf
from tests.processes import clean_environment, manage

pytestmark = pytest.mark.django_db
ME = "/api/v1/me/"


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"access_key": "3/m", "address": "2/m"}
    monkeypatch.setattr(AccessKeyThrottle, "THROTTLE_RATES", rates)
    monkeypatch.setattr(AddressThrottle, "THROTTLE_RATES", rates)
    # In the middle of a window.
    monkeypatch.setattr(_Throttle, "timer", staticmethod(lambda: 1_800_000_030.0))
    cache.clear()


@pytest.mark.usefixtures("_slow")
def test_too_many_requests_of_one_access_key_are_429_and_say_when_to_come_again(api: ApiOf, admin: Member) -> None:
    busy, other = api(admin), api(admin)
    assert [busy.get(ME).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = busy.get(ME)
    assert answer.json()["code"] == "throttled"
    assert answer["Retry-After"] == "30"
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
@pytest.mark.parametrize("broken", ["add", "incr"])
def test_without_its_store_nobody_is_throttled(
    admin_api: APIClient, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    with mock.patch.object(type(AccessKeyThrottle.cache._connections["default"]), broken, side_effect=RedisError):  # type: ignore[attr-defined]  # a proxy
        answers = [admin_api.get(ME) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert "RateLimit" not in answers[0].headers
    assert "not throttled" in caplog.text


@pytest.mark.usefixtures("_slow")
def test_every_answer_says_what_is_left(api: ApiOf, admin: Member, auditor: Member) -> None:
    client = api(admin)
    answers = [client.get(ME), client.get("/api/v1/gateway-keys/?colour=red"), client.delete(ME), client.get(ME)]
    assert [answer.status_code for answer in answers] == [200, 400, 405, 429]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"access_key";q=3;w=60'}
    assert [answer["RateLimit"] for answer in answers] == [f'"access_key";r={left};t=30' for left in (2, 1, 0, 0)]
    refused = api(auditor).post("/api/v1/gateway-keys/", {"name": "x"})
    assert (refused.status_code, refused["RateLimit"]) == (403, '"access_key";r=2;t=30')


@pytest.mark.usefixtures("_slow")
@pytest.mark.parametrize("path", [ME, "/api/v1/nothing/here/", "/api/schema/", "/api/docs/"])
def test_strangers_are_told_what_is_left_too(path: str) -> None:
    stranger = APIClient(REMOTE_ADDR="192.0.2.9")
    answers = [stranger.get(path) for _ in range(3)]
    assert [answer["RateLimit"] for answer in answers] == [f'"address";r={left};t=30' for left in (1, 0, 0)]
    assert answers[0]["RateLimit-Policy"] == '"address";q=2;w=60'
    assert (answers[2].status_code, answers[2]["Retry-After"]) == (429, "30")


@pytest.mark.usefixtures("_slow")
def test_a_window_that_is_over_is_forgotten(admin_api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [admin_api.get(ME).status_code for _ in range(4)][-1] == 429
    monkeypatch.setattr(_Throttle, "timer", staticmethod(lambda: 1_800_000_060.0))
    assert admin_api.get(ME)["RateLimit"] == '"access_key";r=2;t=60'


def test_of_many_at_once_exactly_the_limit_goes_through(admin: Member) -> None:
    cache.clear()
    request = mock.Mock(user=admin, auth=None)

    def ask(_: int) -> bool:
        throttle = AccessKeyThrottle()
        throttle.rate, throttle.num_requests, throttle.duration = "100/d", 100, 86_400
        return throttle.allow_request(request, None)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(300))) == 100


COUNT = """
from unittest import mock
from access.throttles import AccessKeyThrottle
throttle = AccessKeyThrottle()
throttle.rate, throttle.num_requests, throttle.duration = "50/d", 50, 86400
request = mock.Mock(auth=None)
request.user.pk = 4711
print(sum(throttle.allow_request(request, None) for _ in range(40)))
"""


@pytest.mark.postgresql
def test_processes_count_together() -> None:
    cache.clear()
    environment = clean_environment(
        DATABASE_URL=os.environ["DATABASE_URL"],
        REDIS_URL=os.environ["REDIS_URL"],
        KEEPTRUSTS_SECRET_KEY=secrets.token_urlsafe(50),
    )
    passed = [int(manage(environment, "shell", "--no-imports", "-c", COUNT)) for _ in range(2)]
    assert passed == [40, 10]

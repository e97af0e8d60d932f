"""Warnings: when they are due, to whom, and each once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection

from audit import clock
from keys import lifecycle
from keys.models import GatewayKey
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.usage.test_console import make_event
from tests.webhooks.makers import make_endpoint
from usage.models import KeyMetrics
from webhooks import sweeps
from webhooks.models import Notice, WebhookEndpoint

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def listening(db: None) -> WebhookEndpoint:
    return make_endpoint()


@pytest.fixture
def clockwork() -> Iterator[Any]:
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=clock.now().tzinfo), tick=False) as traveller:
        yield traveller


def told(kind: str, key: GatewayKey | None = None) -> list[dict[str, Any]]:
    notices = Notice.objects.filter(type=f"gateway_key.{kind}").order_by("occurred_at")
    if key is not None:
        notices = notices.filter(key=key)
    return [json.loads(notice.body)["data"] for notice in notices]


def live_until(end: datetime, clockwork: Any, step: timedelta = DAY / 4) -> None:
    while clock.now() < end:
        sweeps.warn()
        clockwork.shift(step)


def test_an_expiry_is_told_30_7_and_1_days_before(clockwork: Any) -> None:
    expires = clock.now() + 90 * DAY
    key = make_key(expires_at=expires).key
    live_until(expires + DAY, clockwork)
    notices = Notice.objects.filter(type="gateway_key.expiring").order_by("occurred_at")
    assert [notice.threshold for notice in notices] == [30, 7, 1]
    for notice in notices:
        assert notice.threshold is not None
        assert timedelta(0) <= notice.occurred_at - (expires - notice.threshold * DAY) <= DAY / 4
    assert told("expiring", key)[0]["days"] == 30


def test_who_chose_a_week_is_not_told_at_once_that_it_is_a_week(clockwork: Any) -> None:
    made = clock.now()
    make_key(expires_at=made + 7 * DAY)
    live_until(made + 8 * DAY, clockwork)
    assert [data["days"] for data in told("expiring")] == [1]


def test_after_an_outage_only_the_nearest_warning_is_told(clockwork: Any) -> None:
    make_key(expires_at=clock.now() + 90 * DAY)
    clockwork.shift(89.5 * DAY)
    sweeps.warn()
    sweeps.warn()
    assert [data["days"] for data in told("expiring")] == [1]


def test_another_expiry_is_warned_of_anew_and_a_revoked_key_not_at_all(clockwork: Any) -> None:
    key = make_key(expires_at=clock.now() + 40 * DAY).key
    clockwork.shift(11 * DAY)
    sweeps.warn()
    lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"expires_at": clock.now() + 40 * DAY})
    clockwork.shift(11 * DAY)
    sweeps.warn()
    assert [data["days"] for data in told("expiring")] == [30, 30]
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    clockwork.shift(25 * DAY)
    sweeps.warn()
    assert len(told("expiring")) == 2


@pytest.mark.parametrize(
    ("grace", "before"),
    [
        (timedelta(days=1), timedelta(hours=1)),
        (timedelta(hours=2), timedelta(minutes=30)),
        (timedelta(minutes=4), timedelta(minutes=1)),
        (timedelta(seconds=30), None),
    ],
)
def test_the_end_of_grace_is_told_before_it(clockwork: Any, grace: timedelta, before: timedelta | None) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=grace)
    ends = clock.now() + grace
    step = min(grace / 16, timedelta(minutes=15))
    live_until(ends, clockwork, step)
    found = Notice.objects.filter(type="gateway_key.grace_ending")
    if before is None:
        assert not found.exists()
    else:
        assert timedelta(0) <= found.get().occurred_at - (ends - before) <= step
        (data,) = told("grace_ending")
        assert data["version"] == 1


def test_a_grace_that_was_extended_is_warned_of_again(clockwork: Any) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=4))
    clockwork.shift(timedelta(hours=3.5))
    sweeps.warn()
    lifecycle.extend_grace(actor=TESTS, key_id=key.pk, grace=timedelta(hours=4))
    sweeps.warn()
    assert len(told("grace_ending")) == 1
    clockwork.shift(timedelta(hours=3.5))
    sweeps.warn()
    assert len(told("grace_ending")) == 2


def test_an_idle_key_is_told_of_once_until_it_is_used_again(clockwork: Any) -> None:
    key = make_key().key
    live_until(clock.now() + 40 * DAY, clockwork, DAY)
    (data,) = told("idle")
    assert (data["last_used_at"], data["idle_days"]) == (None, 30)
    KeyMetrics.objects.update_or_create(key=key, defaults={"last_used_at": clock.now()})
    live_until(clock.now() + 40 * DAY, clockwork, DAY)
    assert len(told("idle")) == 2


def test_where_idle_keys_are_revoked_their_owner_is_told_before(clockwork: Any) -> None:
    made = clock.now()
    key = make_key(consumer_group=make_group(idle_days=60)).key
    live_until(made + 55 * DAY, clockwork, DAY)
    (data,) = told("idle", key)
    assert data["idle_days"] == 53
    assert data["revoked_from"].startswith("2026-04-30")


def test_what_nobody_can_use_is_not_called_idle(clockwork: Any) -> None:
    lifecycle.disable(actor=TESTS, key_id=make_key().key.pk)
    lifecycle.revoke(actor=TESTS, key_id=make_key().key.pk)
    live_until(clock.now() + 40 * DAY, clockwork, DAY)
    assert told("idle") == []


def test_use_after_revocation_is_told_once_a_day(clockwork: Any) -> None:
    issued, gateway = make_key(), make_gateway().gateway
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk)
    for hours in (0, 1, 30, 1):
        clockwork.shift(timedelta(hours=hours))
        make_event(gateway, issued, reason="key_revoked", occurred_at=clock.now())
        sweeps.warn()
        sweeps.warn()
    assert len(told("used_after_revocation", issued.key)) == 2


def test_other_denials_are_no_use_after_revocation(clockwork: Any) -> None:
    issued, gateway = make_key(), make_gateway().gateway
    make_event(gateway, issued, reason="key_disabled", occurred_at=clock.now())
    sweeps.warn()
    assert told("used_after_revocation") == []


@pytest.mark.django_db(transaction=True)
def test_several_sweeps_at_once_tell_each_warning_once(listening: WebhookEndpoint) -> None:
    for _ in range(10):
        make_key(expires_at=clock.now() + 90 * DAY)
    errors: list[BaseException] = []

    def sweep() -> None:
        try:
            sweeps.warn()
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            connection.close()

    with time_machine.travel(clock.now() + 70 * DAY):
        threads = [threading.Thread(target=sweep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert Notice.objects.filter(type="gateway_key.expiring").count() == 10


def test_where_nobody_listens_nothing_is_looked_for(django_assert_num_queries: Any) -> None:
    WebhookEndpoint.objects.update(disabled_at=clock.now())
    with django_assert_num_queries(1):
        assert sweeps.warn() == 0

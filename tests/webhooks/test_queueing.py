"""Notices get into the queue with the change that they tell: once, or not at all."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from pytest_django import DjangoCaptureOnCommitCallbacks

from access.refusals import Conflict
from audit import clock
from audit.actor import Actor
from keys import lifecycle
from tests.factories import TESTS, actor_of, make_group, make_key, make_member
from tests.webhooks.receiver import Receiver
from webhooks import queueing
from webhooks.endpoints import IssuedSecret, create_endpoint, disable_endpoint, edit_endpoint
from webhooks.happenings import NoticeType
from webhooks.models import Delivery, Notice

pytestmark = pytest.mark.django_db


def told() -> list[str]:
    return list(Notice.objects.order_by("occurred_at", "sequence").values_list("type", flat=True))


def data_of(notice: Notice) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(notice.body)["data"]
    return data


def test_the_life_of_a_key_is_told_in_order_and_numbered(issued: IssuedSecret) -> None:
    key = make_key(expires_at=clock.now() + timedelta(days=90)).key
    verb: dict[str, Any] = {"actor": TESTS, "key_id": key.pk}
    lifecycle.edit(**verb, changed={"name": "renamed"})
    lifecycle.rotate(**verb)
    lifecycle.extend_grace(**verb, grace=timedelta(days=2))
    lifecycle.end_grace(**verb)
    lifecycle.disable(**verb)
    lifecycle.enable(**verb)
    lifecycle.revoke(**verb, reason="over")
    notices = list(Notice.objects.order_by("sequence"))
    assert [notice.type.removeprefix("gateway_key.") for notice in notices] == [
        "created",
        "edited",
        "rotated",
        "grace_extended",
        "grace_ended",
        "disabled",
        "enabled",
        "revoked",
    ]
    assert [notice.sequence for notice in notices] == list(range(1, 9))
    assert [data_of(notice)["sequence"] for notice in notices] == list(range(1, 9))
    assert Delivery.objects.filter(endpoint=issued.endpoint).count() == 8


def test_a_notice_shows_the_key_as_the_api_does_without_its_figures_and_never_a_value(issued: IssuedSecret) -> None:
    made = make_key("prod", consumer_group=make_group("payments"), expires_at=clock.now() + timedelta(days=90))
    (notice,) = Notice.objects.all()
    told = json.loads(notice.body)
    assert list(told) == ["type", "timestamp", "data"]
    assert told["type"] == "gateway_key.created"
    key = told["data"]["gateway_key"]
    assert (key["name"], key["consumer_group"], key["status"], key["hint"]) == (
        "prod",
        "payments",
        "active",
        made.key.hint,
    )
    assert key["versions"][0]["state"] == "current"
    assert "metrics" not in key
    assert made.value not in notice.body
    assert bytes(made.version.digest).hex() not in notice.body
    assert told["data"]["actor"] == {"kind": "system", "name": "tests"}


def test_what_is_undone_is_not_told(issued: IssuedSecret) -> None:
    with transaction.atomic():
        make_key()
        assert Notice.objects.count() == 1
        transaction.set_rollback(True)
    assert Notice.objects.count() == 0


def test_what_was_refused_is_not_told(issued: IssuedSecret) -> None:
    key = make_key().key
    with pytest.raises(Conflict):
        lifecycle.enable(actor=TESTS, key_id=key.pk)
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    assert told() == ["gateway_key.created", "gateway_key.revoked"]


def test_where_nobody_listens_nothing_is_written(db: None) -> None:
    make_key()
    assert Notice.objects.count() == 0


def test_an_endpoint_gets_what_it_has_chosen(receiver: Receiver, issued: IssuedSecret) -> None:
    choosy = create_endpoint(actor=TESTS, name="b", url=receiver.url, event_types=["gateway_key.revoked"]).endpoint
    off = create_endpoint(actor=TESTS, name="c", url=receiver.url).endpoint
    disable_endpoint(actor=TESTS, endpoint_id=off.pk)
    key = make_key().key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    assert issued.endpoint.deliveries.filter(notice__key=key).count() == 2
    assert [delivery.notice.type for delivery in choosy.deliveries.all()] == ["gateway_key.revoked"]
    assert off.deliveries.count() == 0


def test_a_notice_goes_to_a_worker_after_commit(
    issued: IssuedSecret, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, monkeypatch: Any
) -> None:
    sent: list[str] = []
    monkeypatch.setattr("webhooks.tasks.deliver.apply_async", lambda args, retry: sent.append(args[0]))
    with django_capture_on_commit_callbacks(execute=True):
        make_key()
        assert sent == []
    assert sent == [str(Delivery.objects.get().pk)]


def test_a_broker_that_is_away_holds_up_nobody(
    issued: IssuedSecret, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, monkeypatch: Any
) -> None:
    def away(**_: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr("webhooks.tasks.deliver.apply_async", away)
    with django_capture_on_commit_callbacks(execute=True):
        make_key()
    assert Delivery.objects.get().state == "pending"


def test_a_cause_has_one_notice(issued: IssuedSecret) -> None:
    with transaction.atomic():
        first = queueing.announce(NoticeType.AUDIT_ALTERED, "cause", {})
        second = queueing.announce(NoticeType.AUDIT_ALTERED, "cause", {})
    assert first is not None
    assert second is None
    assert Delivery.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_nothing_can_be_queued() -> None:
    with pytest.raises(transaction.TransactionManagementError):
        queueing.announce(NoticeType.AUDIT_ALTERED, "cause", {})


@pytest.mark.django_db(transaction=True)
def test_many_at_once_queue_one(issued: IssuedSecret) -> None:
    def announce() -> None:
        try:
            with transaction.atomic():
                queueing.announce(NoticeType.AUDIT_ALTERED, "cause", {})
        finally:
            connection.close()

    threads = [threading.Thread(target=announce) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Notice.objects.count() == 1
    assert Delivery.objects.count() == 1


def test_an_audit_log_found_altered_is_told_once_a_day(issued: IssuedSecret) -> None:
    from audit.actions import AuditAction
    from audit.recording import Subject, record

    def found(problems: int) -> None:
        detail = {"valid": problems == 0, "sealed": 5, "problems": problems}
        with transaction.atomic():
            record(AuditAction.AUDIT_VERIFIED, Actor.system("verification"), Subject("audit_entry"), detail=detail)

    found(0)
    assert told() == []
    found(2)
    found(2)
    assert told() == ["audit.altered"]
    assert data_of(Notice.objects.get())["verification"] == {"valid": False, "sealed": 5, "problems": 2}
    found(3)
    with time_machine.travel(clock.now() + timedelta(days=1)):
        found(3)
    assert told() == ["audit.altered"] * 3


def test_a_secret_in_a_description_never_gets_into_a_notice(issued: IssuedSecret) -> None:
    # The verbs refuse it; what got in past them is struck out all the same.
    key = make_key().key
    type(key).objects.filter(pk=key.pk).update(description="see kt_gk_" + "a" * 32)
    lifecycle.disable(actor=actor_of(make_member()), key_id=key.pk)
    assert data_of(Notice.objects.get(type="gateway_key.disabled"))["gateway_key"]["description"] == "see kt_gk_aaaa…"


def test_an_edited_choice_holds_for_what_comes(issued: IssuedSecret) -> None:
    edit_endpoint(
        actor=TESTS,
        endpoint_id=issued.endpoint.pk,
        changed={"event_types": ["gateway_key.revoked", "gateway_key.created"]},
    )
    key = make_key().key
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    assert [delivery.notice.type for delivery in Delivery.objects.all()] == ["gateway_key.created"]

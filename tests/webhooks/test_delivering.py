"""Deliveries to a real receiver, which is as bad as receivers are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from standardwebhooks import Webhook, WebhookVerificationError

from audit import clock
from audit.models import AuditEntry
from keys import lifecycle
from tests.factories import TESTS, make_key
from tests.webhooks.receiver import (
    Manner,
    Receiver,
    answering,
    dripping,
    endless_body,
    endless_header,
    hanging,
    resetting,
)
from webhooks import delivering, endpoints
from webhooks.endpoints import IssuedSecret
from webhooks.models import Attempt, Delivery, DeliveryState, Notice

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself is the worker: what is handed out it fetches by `work`."""
    monkeypatch.setattr("webhooks.tasks.deliver.apply_async", lambda **_: None)


def work(*, until: datetime | None = None) -> int:
    """Do what workers and beat do until nothing is due any more; return how many attempts were made."""
    made = 0
    due = Delivery.objects.filter(state=DeliveryState.PENDING)
    while ids := list(due.filter(next_attempt_at__lte=clock.now()).values_list("pk", flat=True)):
        made += sum(delivering.deliver(pk) is not None for pk in ids)
    return made


@pytest.fixture
def clockwork() -> Iterator[Any]:
    """Time that stands until the test moves it."""
    with time_machine.travel(clock.now(), tick=False) as traveller:
        yield traveller


def next_attempt() -> datetime:
    at = Delivery.objects.filter(state=DeliveryState.PENDING).order_by("next_attempt_at").first()
    assert at is not None
    assert at.next_attempt_at is not None
    return at.next_attempt_at


def test_a_notice_arrives_signed_as_standard_webhooks_says(issued: IssuedSecret, receiver: Receiver) -> None:
    key = make_key("prod").key
    assert work() == 1
    ((headers, body),) = receiver.taken
    told = Webhook(issued.value).verify(body, headers)
    assert told["data"]["gateway_key"]["id"] == str(key.pk)
    assert headers["webhook-id"] == Notice.objects.get().pk
    assert headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(issued.value).verify(body + " ", headers)
    delivery = Delivery.objects.get()
    (attempt,) = delivery.attempts.all()
    assert (delivery.state, attempt.status, attempt.error) == ("delivered", 204, "")
    issued.endpoint.refresh_from_db()
    assert issued.endpoint.delivered_at is not None


def test_while_secrets_overlap_a_notice_is_signed_with_both(issued: IssuedSecret, receiver: Receiver) -> None:
    new = endpoints.rotate_secret(actor=TESTS, endpoint_id=issued.endpoint.pk, overlap=timedelta(hours=1))
    make_key()
    work()
    headers, body = receiver.taken[0]
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (issued.value, new.value):
        Webhook(secret).verify(body, headers)
    with time_machine.travel(clock.now() + timedelta(hours=2)):
        make_key()
        work()
        headers, body = receiver.taken[1]
        Webhook(new.value).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(issued.value).verify(body, headers)


@pytest.mark.parametrize(
    ("manner", "status", "error", "longest"),
    [
        (answering(500, b"no"), 500, "Answered 500.", 2),
        (answering(404), 404, "Answered 404.", 2),
        (answering(302, Location="http://127.0.0.1:1/"), 302, "redirects are not followed", 2),
        (answering(307, Location="http://169.254.169.254/"), 307, "redirects are not followed", 2),
        (hanging, None, "No answer within 5 s.", 6),
        (resetting, None, "The connection failed", 2),
        (dripping, None, "No answer within 5 s.", 6),
        (endless_header, None, "The connection failed", 6),
        (endless_body, 500, "Answered 500.", 6),
    ],
)
def test_a_bad_receiver_costs_one_short_attempt_and_is_asked_again(
    issued: IssuedSecret, receiver: Receiver, manner: Manner, status: int | None, error: str, longest: float
) -> None:
    receiver.manner = manner
    make_key()
    started = time.monotonic()
    assert work() == 1
    assert time.monotonic() - started < longest
    attempt = Attempt.objects.get()
    assert attempt.status == status
    assert error in attempt.error
    assert len(attempt.answer) <= 1_000
    receiver.manner = answering(200, b"ok")
    with time_machine.travel(next_attempt() + timedelta(seconds=1)):
        assert work() == 1
    assert len(set(receiver.ids)) == 1
    assert Delivery.objects.get().state == "delivered"


def test_a_compressed_bomb_is_not_opened(issued: IssuedSecret, receiver: Receiver) -> None:
    import gzip

    receiver.manner = answering(400, gzip.compress(b"x" * 50_000_000), Content_Encoding="gzip")
    make_key()
    work()
    assert receiver.taken[0][0]["accept-encoding"] == "identity"
    assert len(Attempt.objects.get().answer) <= 1_000


def test_an_answer_is_kept_without_secrets(issued: IssuedSecret, receiver: Receiver) -> None:
    receiver.manner = answering(500, f"bad signature for {issued.value}\x00".encode())
    make_key()
    work()
    answer = Attempt.objects.get().answer
    assert issued.value not in answer
    assert answer.startswith("bad signature for whsec_")


def test_who_vanishes_for_a_day_gets_everything(issued: IssuedSecret, receiver: Receiver, clockwork: Any) -> None:
    receiver.manner = answering(503)
    key = make_key().key
    for _ in range(3):
        lifecycle.rotate(actor=TESTS, key_id=key.pk)
    away_until = clock.now() + timedelta(days=1)
    while clock.now() < away_until:
        work()
        clockwork.move_to(next_attempt())
    receiver.manner = answering(200)
    before = len(receiver.taken)
    while Delivery.objects.filter(state=DeliveryState.PENDING).exists():
        clockwork.move_to(max(next_attempt(), clock.now()))
        work()
    arrived = receiver.ids[before:]
    assert sorted(arrived) == sorted(Notice.objects.values_list("pk", flat=True))
    assert set(receiver.ids[:before]) == set(arrived)
    issued.endpoint.refresh_from_db()
    assert issued.endpoint.failing_since is None
    assert issued.endpoint.disabled_at is None


def test_pauses_grow_over_three_days_and_then_the_endpoint_is_given_up(
    issued: IssuedSecret, receiver: Receiver, clockwork: Any
) -> None:
    receiver.manner = answering(500)
    make_key()
    began = clock.now()
    work()
    pauses = []
    while pending := Delivery.objects.filter(state=DeliveryState.PENDING).first():
        assert pending.next_attempt_at is not None
        pauses.append(pending.next_attempt_at - clock.now())
        clockwork.move_to(pending.next_attempt_at)
        work()
    assert pauses == sorted(pauses)
    assert [round(pause / suggested, 1) >= 1 for pause, suggested in zip(pauses, delivering.PAUSES, strict=True)]
    assert timedelta(days=3) < clock.now() - began < timedelta(days=4)
    delivery = Delivery.objects.get(endpoint=issued.endpoint, notice__type="gateway_key.created")
    assert (delivery.state, delivery.attempts.count()) == ("failed", 10)
    issued.endpoint.refresh_from_db()
    assert issued.endpoint.disabled_at is not None
    entry = AuditEntry.objects.get(action="webhook_endpoint.disabled")
    assert "3 days" in entry.after["reason"]
    assert Notice.objects.filter(type="webhook_endpoint.disabled").count() == 1


def test_who_is_gone_is_given_up_at_once(issued: IssuedSecret, receiver: Receiver) -> None:
    make_key()
    make_key()
    receiver.manner = answering(410)
    first = Delivery.objects.order_by("created_at")[0]
    delivering.deliver(first.pk)
    issued.endpoint.refresh_from_db()
    assert "410" in issued.endpoint.disabled_reason
    assert set(Delivery.objects.values_list("state", "next_attempt_at")) == {("failed", None)}


def test_what_has_failed_is_sent_again_by_hand_under_the_same_id(issued: IssuedSecret, receiver: Receiver) -> None:
    receiver.manner = answering(410)
    make_key()
    make_key()
    work()
    receiver.manner = answering(200)
    verb: dict[str, Any] = {"actor": TESTS, "endpoint_id": issued.endpoint.pk}
    endpoints.enable_endpoint(**verb)
    assert endpoints.redeliver(**verb, since=clock.now()) == 0
    assert endpoints.redeliver(**verb) == 2
    assert work() == 2
    assert set(receiver.ids[-2:]) == set(Notice.objects.filter(key__isnull=False).values_list("pk", flat=True))
    one = Delivery.objects.filter(notice__key__isnull=False)[0]
    assert endpoints.redeliver(**verb, delivery_id=one.pk) == 1
    assert work() == 1
    assert receiver.ids[-1] == one.notice_id


def test_a_worker_that_died_in_the_midst_has_lost_nothing(issued: IssuedSecret, receiver: Receiver) -> None:
    make_key()
    pk = Delivery.objects.get().pk
    assert delivering.claim(pk) is not None
    # Claimed, and never heard of again.
    assert delivering.deliver(pk) is None
    with time_machine.travel(clock.now() + delivering.HANDED + timedelta(seconds=1)):
        assert delivering.hand_out_due() == 1
        assert delivering.deliver(pk) is not None
    assert Delivery.objects.get().state == "delivered"


def test_one_that_fails_is_asked_by_one_worker_at_a_time(issued: IssuedSecret, receiver: Receiver) -> None:
    receiver.manner = answering(500)
    make_key()
    work()
    for _ in range(5):
        make_key()
    with time_machine.travel(clock.now() + timedelta(hours=1)):
        assert delivering.hand_out_due() == delivering.PROBES
        receiver.manner = answering(200)
        first = Delivery.objects.filter(handed_at__isnull=False).order_by("-handed_at")[0]
        delivering.deliver(first.pk)
        assert delivering.hand_out_due() == 5


def test_what_was_handed_out_is_not_handed_out_again_at_once(issued: IssuedSecret) -> None:
    make_key()
    assert delivering.hand_out_due() == 0
    with time_machine.travel(clock.now() + timedelta(minutes=2)):
        assert delivering.hand_out_due() == 1
        assert delivering.hand_out_due() == 0


def test_a_secret_kept_under_another_secret_key_says_what_to_do(
    issued: IssuedSecret, receiver: Receiver, settings: Any
) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another secret of the installation, long enough to be one"
    make_key()
    work()
    assert "KEEPTRUSTS_SECRET_KEY_FALLBACKS" in Attempt.objects.get().error
    assert receiver.taken == []
    settings.SECRET_KEY_FALLBACKS = [old]
    assert endpoints.seal_anew() == 1
    assert endpoints.seal_anew() == 0
    settings.SECRET_KEY_FALLBACKS = []
    with time_machine.travel(next_attempt() + timedelta(seconds=1)):
        work()
        Webhook(issued.value).verify(receiver.taken[0][1], receiver.taken[0][0])


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_sends(issued: IssuedSecret, receiver: Receiver) -> None:
    make_key()
    pk = Delivery.objects.get().pk
    made: list[Attempt | None] = []

    def work_on() -> None:
        try:
            made.append(delivering.deliver(pk))
        finally:
            connection.close()

    threads = [threading.Thread(target=work_on) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([attempt for attempt in made if attempt is not None]) == 1
    assert len(receiver.taken) == 1


def test_old_notices_are_forgotten_but_for_what_still_waits(issued: IssuedSecret, receiver: Receiver) -> None:
    key = make_key().key
    work()
    receiver.manner = answering(500)
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    with time_machine.travel(clock.now() + timedelta(days=100)):
        assert delivering.forget(timedelta(days=90)) == 3
        lifecycle.enable(actor=TESTS, key_id=key.pk)
    assert list(Notice.objects.order_by("sequence").values_list("sequence", flat=True)) == [2, 3]
    assert json.loads(Notice.objects.get(sequence=3).body)["data"]["sequence"] == 3

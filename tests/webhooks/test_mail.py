"""Notices by mail: to whom, what they say, and each once."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException
from typing import Any

import pytest
import time_machine
from django.core import mail as outbox
from django.core.mail import EmailMessage
from django.db import transaction

from access.members import edit_member, set_preferences
from access.models import Member
from audit import clock
from audit.actions import AuditAction
from audit.actor import Actor
from audit.recording import Subject, record
from keys import lifecycle
from tests.factories import TESTS, actor_of, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.webhooks.makers import make_endpoint
from webhooks import delivering, sweeps
from webhooks.endpoints import stop
from webhooks.models import Delivery, DeliveryState, Notice

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mail_server(settings: Any) -> None:
    settings.KEEPTRUSTS_MAIL = True
    settings.PUBLIC_URL = "https://keys.example.com"


@pytest.fixture
def owner(db: None) -> Member:
    return make_member("manager", email="owner@example.com")


@pytest.fixture
def colleague(db: None) -> Member:
    return make_member("manager", email="colleague@example.com")


def post() -> list[EmailMessage]:
    for pk in Delivery.objects.filter(state=DeliveryState.PENDING).values_list("pk", flat=True):
        delivering.deliver(pk)
    return list(outbox.outbox)


def recipients() -> list[str]:
    return sorted(message.to[0] for message in post())


def test_the_owner_and_the_groups_managers_are_told_once_each(owner: Member, colleague: Member) -> None:
    make_member("manager", email="stranger@example.com")
    group = make_group(managers=[owner, colleague])
    key = make_key("prod", consumer_group=group, owner=owner).key
    lifecycle.revoke(actor=TESTS, key_id=key.pk, reason="leaked")
    assert recipients() == ["colleague@example.com", "owner@example.com"]
    message = outbox.outbox[0]
    assert message.subject == "[Keeptrusts] Key revoked: “prod”"
    assert "Reason:         leaked" in message.body
    assert f"https://keys.example.com/admin/keys/gatewaykey/{key.pk}/change/" in message.body
    assert message.extra_headers["Message-ID"].startswith(f"<{Notice.objects.get(type='gateway_key.revoked').pk}.")


def test_edits_and_rotations_are_mailed_to_who_wants_everything(owner: Member) -> None:
    key = make_key(owner=owner).key
    lifecycle.rotate(actor=TESTS, key_id=key.pk)
    assert recipients() == []
    set_preferences(actor=actor_of(owner), member_id=owner.pk, changed={"notice_mail": "all"})
    lifecycle.rotate(actor=TESTS, key_id=key.pk)
    assert recipients() == ["owner@example.com"]


def test_who_wants_no_mail_gets_none(owner: Member) -> None:
    set_preferences(actor=actor_of(owner), member_id=owner.pk, changed={"notice_mail": "none"})
    lifecycle.revoke(actor=TESTS, key_id=make_key(owner=owner).key.pk)
    assert recipients() == []


def test_who_has_no_address_or_was_taken_out_gets_none(owner: Member) -> None:
    first, second = make_key(owner=owner).key, make_key(owner=make_member("manager")).key
    edit_member(actor=TESTS, member_id=owner.pk, changed={"is_active": False})
    for key in (first, second):
        lifecycle.revoke(actor=TESTS, key_id=key.pk)
    assert recipients() == []


def test_without_a_mail_server_nothing_is_queued(owner: Member, settings: Any) -> None:
    settings.KEEPTRUSTS_MAIL = False
    lifecycle.revoke(actor=TESTS, key_id=make_key(owner=owner).key.pk)
    assert Delivery.objects.count() == 0


def test_a_mail_that_is_not_taken_is_sent_later_under_the_same_id(owner: Member, monkeypatch: Any) -> None:
    lifecycle.revoke(actor=TESTS, key_id=make_key(owner=owner).key.pk)
    with monkeypatch.context() as patch:

        def busy(self: EmailMessage, **_: Any) -> int:
            raise SMTPException("421 try later")

        patch.setattr(EmailMessage, "send", busy)
        assert recipients() == []
    delivery = Delivery.objects.get()
    assert "421 try later" in delivery.attempts.get().error
    with time_machine.travel(clock.now() + timedelta(minutes=1)):
        assert recipients() == ["owner@example.com"]
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DELIVERED


def test_warnings_say_what_to_look_at(owner: Member) -> None:
    make_key("prod\nBcc: evil@example.com".replace("\n", " "), owner=owner, expires_at=clock.now() + timedelta(days=90))
    with time_machine.travel(clock.now() + timedelta(days=84)):
        sweeps.warn()
        (message,) = post()
    assert message.subject == "[Keeptrusts] Key “prod Bcc: evil@example.com” expires in 7 days"


def test_an_altered_audit_log_is_told_to_admins_and_auditors(owner: Member) -> None:
    make_member("admin", email="admin@example.com")
    make_member("auditor", email="auditor@example.com")
    detail = {"valid": False, "sealed": 9, "problems": 1}
    with transaction.atomic():
        record(AuditAction.AUDIT_VERIFIED, Actor.system("verification"), Subject("audit_entry"), detail=detail)
    assert recipients() == ["admin@example.com", "auditor@example.com"]
    assert "found altered" in outbox.outbox[0].subject
    assert "https://keys.example.com/admin/audit/auditentry/verify/" in outbox.outbox[0].body


def test_a_member_chooses_under_preferences_and_what_is_not_sent_stays(browser: BrowserOf, owner: Member) -> None:
    client = browser(owner)
    client.post("/admin/preferences/", {"time_zone": "UTC", "notice_mail": "none"})
    owner.refresh_from_db()
    assert owner.notice_mail == "none"
    client.post("/admin/preferences/", {"time_zone": "Europe/Berlin"})
    owner.refresh_from_db()
    assert (owner.notice_mail, owner.time_zone) == ("none", "Europe/Berlin")
    client.post("/admin/preferences/", {"time_zone": "UTC", "notice_mail": "some"})
    owner.refresh_from_db()
    assert owner.time_zone == "Europe/Berlin"


def test_an_owner_who_may_not_see_the_key_is_not_told_of_it(owner: Member, colleague: Member) -> None:
    group = make_group(managers=[colleague])
    key = make_key("prod", consumer_group=group, owner=owner).key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    assert recipients() == ["colleague@example.com"]


def test_who_lost_sight_of_the_key_before_it_was_sent_gets_no_mail(owner: Member, colleague: Member) -> None:
    group = make_group(managers=[owner, colleague])
    key = make_key(consumer_group=group).key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    group.managers.set([colleague])
    assert recipients() == ["colleague@example.com"]
    kept = Delivery.objects.get(recipient=owner).attempts.get()
    assert kept.error == "The member may not see any more what it is about."


def test_of_an_endpoint_that_was_given_up_nobody_but_admins_hears(owner: Member) -> None:
    admin = make_member("admin", email="admin@example.com")
    endpoint = make_endpoint()
    endpoint.owner = owner
    endpoint.save()
    with transaction.atomic():
        stop(endpoint, Actor.system("webhooks"), "It answered 410: it is gone.")
    assert recipients() == [admin.email]

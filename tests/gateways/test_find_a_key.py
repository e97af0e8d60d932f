"""A leaked value, pasted: whose it is, to whom that is told, revoked on the spot, and what follows."""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from access.models import Member
from access.rules import Role
from access.tokens import TokenKind, generate
from audit import clock
from audit.models import AuditEntry
from gateways import processes
from keys import lifecycle
from keys.models import GatewayKey
from keys.status import KeyStatus
from tests.factories import TESTS, make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import main_of
from tests.usage.test_console import make_event

pytestmark = pytest.mark.django_db
FIND = "/admin/find-a-key/"


def found(client: Any, text: str) -> str:
    return main_of(client.post(FIND, {"value": text}))


def test_a_value_is_identified_with_its_version(browser: BrowserOf, auditor: Member) -> None:
    first = make_key("billing", consumer_group=make_group("payments"))
    lifecycle.rotate(actor=TESTS, key_id=first.key.pk, grace=timedelta(hours=1))
    page = found(browser(auditor), first.value)
    assert "billing" in page
    assert "an older value, in grace" in page
    assert "This value is accepted" in page
    assert "payments" in page


def test_a_value_of_a_revoked_key_is_refused(browser: BrowserOf, admin: Member) -> None:
    issued = make_key("billing")
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk)
    assert "This value is refused: the key is revoked." in found(browser(admin), issued.value)


def test_a_hint_is_enough(browser: BrowserOf, admin: Member) -> None:
    issued = make_key("billing")
    for hint in (issued.value[:10], f"{issued.value[:10]}…"):
        page = found(browser(admin), hint)
        assert "billing" in page
        assert "Only a hint was given" in page


def test_a_value_is_found_in_a_line_of_a_log(browser: BrowserOf, admin: Member) -> None:
    issued = make_key("billing")
    assert "billing" in found(browser(admin), f'12:00 INFO "Authorization: Bearer {issued.value}" 200')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "Not a value of ours"),
        ("", "Paste a value, or its hint"),
        ("kt_gk_abc", "Not well-formed"),
        ("kt_gk_" + "A" * 32, "Not well-formed"),
        ("kt_gk_" + "a" * 32, "Wrong checksum"),
        ("\x00 kt_gk_\x00", "Not well-formed"),
    ],
)
def test_what_is_no_value_is_told_apart(browser: BrowserOf, admin: Member, text: str, words: str) -> None:
    assert words in found(browser(admin), text)


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_value_that_nobody_has_is_unknown(browser: BrowserOf, admin: Member, kind: TokenKind) -> None:
    assert "Unknown" in found(browser(admin), generate(kind))


def test_a_manager_is_told_the_same_of_what_they_may_not_see_as_of_nothing(browser: BrowserOf, manager: Member) -> None:
    other = make_key(consumer_group=make_group("search", managers=[make_member(Role.MANAGER)]))
    client = browser(manager)

    def answer(value: str) -> str:
        page = client.post(FIND, {"value": value}).content.decode()
        return re.sub(r'(csrfmiddlewaretoken" value="|nonce[=-]"?)[^"]+', "", page[page.index('id="content-main"') :])

    assert answer(other.value) == answer(generate(TokenKind.GATEWAY_KEY))


def test_access_keys_and_tokens_are_told_to_who_may_see_them(
    browser: BrowserOf, admin: Member, manager: Member, auditor: Member
) -> None:
    access_key = make_access_key(auditor, name="nightly export")
    token = make_gateway("edge-eu").value
    assert "nightly export" in found(browser(admin), access_key.value)
    assert "nightly export" in found(browser(auditor), access_key.value)
    assert "Unknown" in found(browser(manager), access_key.value)
    assert "A token of the gateway edge-eu" in found(browser(admin), token)


def test_a_value_goes_nowhere(browser: BrowserOf, admin: Member, caplog: pytest.LogCaptureFixture) -> None:
    issued = make_key()
    client = browser(admin)
    before = AuditEntry.objects.count()
    response = client.post(FIND, {"value": issued.value})
    assert issued.value not in response.content.decode()
    assert "no-store" in response.headers["Cache-Control"]
    assert issued.value not in str(dict(client.session)) + response.cookies.output() + caplog.text
    assert AuditEntry.objects.count() == before


def test_a_value_in_the_address_is_not_looked_up(browser: BrowserOf, admin: Member) -> None:
    issued = make_key("billing")
    assert "billing" not in main_of(browser(admin).get(FIND, {"value": issued.value}))


def test_the_key_is_revoked_with_a_reason_and_what_follows_is_shown(browser: BrowserOf, manager: Member) -> None:
    key = make_key("billing", consumer_group=make_group("payments", managers=[manager])).key
    given = {"reason": "Leaked in a build log", "confirmed": "on"}
    response = browser(manager).post(f"{FIND}{key.pk}/revoke/", given, follow=True)
    key.refresh_from_db()
    assert (key.status, key.revoke_reason) == (KeyStatus.REVOKED, "Leaked in a build log")
    assert response.redirect_chain == [(f"{FIND}{key.pk}/after/", 302)]
    assert "billing is revoked" in main_of(response)
    assert "Who refuses it" in main_of(response)


def test_nothing_is_revoked_without_the_confirmation_that_names_the_key(browser: BrowserOf, admin: Member) -> None:
    key = make_key("billing").key
    page = main_of(browser(admin).post(f"{FIND}{key.pk}/revoke/", {"reason": "x"}))
    assert f"Revoke billing ({key.hint}, of all groups) for good" in page
    assert "Tick this" in page
    assert GatewayKey.objects.get(pk=key.pk).revoked_at is None


def test_an_auditor_finds_but_may_not_revoke_and_the_attempt_is_recorded(browser: BrowserOf, auditor: Member) -> None:
    issued = make_key("billing")
    client = browser(auditor)
    assert "You may not revoke this key" in found(client, issued.value)
    assert client.post(f"{FIND}{issued.key.pk}/revoke/", {"confirmed": "on"}).status_code == 403
    assert AuditEntry.objects.filter(action="gateway_key.revoke_refused", object_id=str(issued.key.pk)).exists()
    assert GatewayKey.objects.get(pk=issued.key.pk).revoked_at is None


def test_requests_that_still_arrive_are_told_by_address_and_gateway(browser: BrowserOf, auditor: Member) -> None:
    issued = make_key("billing")
    gateway = make_gateway("edge-eu").gateway
    make_event(gateway, issued, reason="network_not_allowed", client_ip="192.0.2.1")
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk)
    for address in ("198.51.100.7", "198.51.100.7", "2001:db8::1"):
        make_event(gateway, issued, reason="key_revoked", client_ip=address)
    page = main_of(browser(auditor).get(f"{FIND}{issued.key.pk}/after/"))
    assert "3 refused since" in page
    assert "198.51.100.7 edge-eu 2" in page
    assert "2001:db8::1 edge-eu 1" in page
    assert "192.0.2.1" not in page


def test_events_that_are_a_sample_are_called_so(browser: BrowserOf, auditor: Member) -> None:
    issued = make_key("billing")
    gateway = make_gateway("edge-eu").gateway
    lifecycle.revoke(actor=TESTS, key_id=issued.key.pk)
    make_event(gateway, issued, reason="key_revoked", client_ip="198.51.100.7")
    issued.version.usage_buckets.create(gateway=gateway, start=clock.now(), denials=4_000)
    page = main_of(browser(auditor).get(f"{FIND}{issued.key.pk}/after/"))
    assert "4,000 refused since" in page
    assert "1 kept events: a sample" in page


@pytest.mark.postgresql
def test_every_gateway_process_is_told_with_since_when_it_refuses(browser: BrowserOf, auditor: Member) -> None:
    key = make_key("billing").key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    process_id = uuid4()
    processes.renew(process_id, applied=processes.register(process_id), lease=30)
    page = main_of(browser(auditor).get(f"{FIND}{key.pk}/after/"))
    assert "gateway processes" in page
    assert socket.gethostname() in page

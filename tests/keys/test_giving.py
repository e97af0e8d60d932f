"""The value of a key, shown once: what is done with it, and what a form sent twice is offered."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from html import unescape
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache

from access.models import Member
from access.tokens import digest
from audit import clock
from audit.models import AuditEntry
from audit.moments import stamp
from keys import lifecycle
from keys.models import GatewayKey
from keys.networks import accepted_address
from keys.status import VersionState
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.keys.conftest import ADD, Console, form, page_of, text_of
from tests.pages import SENT, secret_of
from tests.plane import running_plane


def shown_command(response: Any) -> list[str]:
    """Return the words of the command that the page shows, as a shell reads it."""
    found = re.search(r'<pre id="secret-curl">(.*?)</pre>', response.content.decode(), re.DOTALL)
    assert found
    return shlex.split(unescape(found[1]))


def replace_form(response: Any) -> tuple[str, dict[str, str]]:
    html = response.content.decode()
    address = re.search(r'<form method="post" action="([^"]+/replace/)"', html)
    token = re.search(r'name="form_token" value="([^"]+)"', html)
    assert address
    assert token
    return address[1], {"form_token": token[1]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("networks", ["", "192.168.9.0/24\n192.168.7.0/24"])
def test_the_command_that_is_shown_is_answered_200(networks: str, console: Console, admin: Member) -> None:
    cache.clear()
    group = make_group("payments", allowed_networks=["192.168.0.0/16"])
    token = make_gateway("a gateway").value
    sent = form(form_token=uuid4(), consumer_group=group.pk, allowed_networks=networks)
    words = shown_command(console(admin).post(ADD, sent))
    headers = [word.replace("$KEEPTRUSTS_GATEWAY_TOKEN", token) for flag, word in pairwise(words) if flag == "-H"]
    assert words[:3] == ["curl", "-i", "http://testserver/gateway/v1/authorize"]
    with running_plane() as plane:
        pairs = [(name.lower().encode(), text.encode()) for name, _, text in (h.partition(": ") for h in headers)]
        answer = plane.ask(headers=pairs)
    assert (answer.status, answer.reason) == (200, None)


def test_an_address_that_is_accepted_is_in_every_list() -> None:
    assert accepted_address([], []) == ""
    assert accepted_address(["10.0.0.0/8"], []) == "10.0.0.0"
    assert accepted_address(["2001:db8::/32", "10.2.0.0/16"], ["10.0.0.0/8"]) == "10.2.0.0"
    assert accepted_address(["10.0.0.0/8"], ["11.0.0.0/8"]) == ""


def test_a_form_sent_twice_offers_to_replace_the_value(console: Console, admin: Member) -> None:
    client = console(admin)
    sent = form(form_token=uuid4())
    first = secret_of(client.post(ADD, sent))
    again = client.post(ADD, sent)
    assert "nothing was done a second time" in text_of(again)
    replaced = client.post(*replace_form(again))
    assert "no-store" in replaced["Cache-Control"]
    new, old = GatewayKey.objects.get().versions.all()
    assert bytes(new.digest) == digest(secret_of(replaced)) != digest(first)
    assert (new.state_at(clock.now()), old.state_at(clock.now())) == (VersionState.CURRENT, VersionState.CLOSED)


def test_replacing_twice_makes_one_value(console: Console, admin: Member) -> None:
    client, key = console(admin), make_key().key
    address, sent = f"/admin/keys/gatewaykey/{key.pk}/replace/", {"form_token": str(uuid4())}
    value = secret_of(client.post(address, sent))
    again = client.post(address, sent, follow=True)
    assert "was replaced already" in text_of(again)
    assert value not in again.content.decode()
    assert key.versions.count() == 2


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000])
def test_replacing_needs_the_token_of_its_form(token: str, console: Console, admin: Member) -> None:
    key = make_key().key
    answer = console(admin).post(f"/admin/keys/gatewaykey/{key.pk}/replace/", {"form_token": token})
    assert answer["Location"] == page_of(key)
    assert key.versions.count() == 1


def test_the_value_of_a_revoked_key_is_not_replaced(console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    sent = {"form_token": str(uuid4())}
    answer = console(admin).post(f"/admin/keys/gatewaykey/{key.pk}/replace/", sent, follow=True)
    assert "This key is revoked." in text_of(answer)
    assert AuditEntry.objects.filter(action="gateway_key.rotate_refused").count() == 1


def test_who_may_not_rotate_may_not_replace(console: Console, auditor: Member) -> None:
    key = make_key().key
    answer = console(auditor).post(f"/admin/keys/gatewaykey/{key.pk}/replace/", {"form_token": str(uuid4())})
    assert answer.status_code == 403
    assert key.versions.count() == 1


def test_the_page_of_the_value_has_its_line_of_an_env_file(console: Console, admin: Member) -> None:
    html = console(admin).post(ADD, form(form_token=uuid4())).content.decode()
    assert 'data-env-of="secret-value" data-env-name="KEEPTRUSTS_KEY"' in html


def test_extending_grace_in_the_console_says_until_when(console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    client, address = console(admin), f"/admin/keys/gatewaykey/{key.pk}/extend_grace/"
    assert "As it stands, until" in text_of(client.get(address))
    client.post(address, {**SENT, "grace": "86400"})
    key.refresh_from_db()
    assert key.grace_until is not None
    assert f"stays accepted until {stamp(key.grace_until)}" in text_of(client.get(page_of(key)))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({}, "No rule: a key may live for ever, from anywhere."),
        ({"max_lifetime_days": 60}, "A key lives for at most 60 days; an expiry is mandatory."),
        ({"expiry_required": True}, "An expiry is mandatory."),
        ({"default_lifetime_days": 1}, "Proposed: 1 day."),
        ({"max_grace_seconds": 0}, "After a rotation the old value is refused at once."),
        ({"max_grace_seconds": 7200}, "After a rotation the old value stays accepted for at most 2 hours."),
        ({"allowed_networks": ["10.0.0.0/8"]}, "Accepted only from 10.0.0.0/8."),
        ({"idle_days": 1000}, "A key that nobody has used for 1,000 days is revoked."),
    ],
)
def test_the_form_says_every_rule_of_a_policy(
    rules: dict[str, Any], said: str, console: Console, admin: Member
) -> None:
    make_group("payments", **rules)
    assert f'data-rules="{said}"' in console(admin).get(ADD).content.decode()

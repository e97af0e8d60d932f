"""The list of gateway keys in the console."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit import clock
from keys import lifecycle
from keys.models import GatewayKey
from tests.factories import TESTS, make_group, make_key, make_member
from tests.keys.conftest import KEYS, Console, text_of
from usage.models import KeyMetrics


def names(client: Client, **query: Any) -> list[str]:
    """Return the names of the rows that the list shows, from the top."""
    response = client.get(KEYS, query)
    assert response.status_code == 200
    return re.findall(r'<th class="field-name[^>]*><a [^>]*>([^<]*)</a>', response.content.decode())


def menu(client: Client, key: GatewayKey) -> list[str]:
    """Return what the row's menu of `key` offers."""
    page = client.get(KEYS).content.decode()
    cell = re.search(rf'aria-label="Actions: {key.name}".*?</nav>', page, re.DOTALL)
    items = re.findall(r'<span class="grow truncate">(.*?)</span>', cell[0]) if cell else []
    return [item.strip() for item in items]


def used(key: GatewayKey, *, last_used_at: datetime | None = None, requests_24h: int = 0) -> None:
    KeyMetrics.objects.create(key=key, last_used_at=last_used_at, requests_24h=requests_24h, total_requests=9)


def test_a_row_says_everything_about_its_key(console: Console, auditor: Member) -> None:
    key = make_key("billing", consumer_group=make_group("payments", name="Payments"), expires_at=None).key
    used(key, last_used_at=clock.now() - timedelta(hours=3), requests_24h=1234)

    page = text_of(console(auditor).get(KEYS))

    for expected in ("billing", "Active", "Payments", key.hint, "Never", "3 hours ago", "1,234"):
        assert expected in page
    assert f"{key.created_at:%Y-%m-%d %H:%M} UTC" in page


def test_a_page_has_twenty_five_rows(console: Console, admin: Member) -> None:
    for _ in range(27):
        make_key()
    assert len(names(console(admin))) == 25
    assert len(names(console(admin), p=2)) == 2


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_the_list_asks_as_often_for_many_keys_as_for_few(
    role: str, console: Console, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = console(make_member(role))
    groups = [make_group(), make_group(), None]

    def queries() -> int:
        with django_assert_max_num_queries(20) as seen:
            assert client.get(KEYS).status_code == 200
        return len(seen)

    for group in groups:
        used(make_key(consumer_group=group).key)
    few = queries()
    for number in range(22):
        used(make_key(consumer_group=groups[number % 3]).key)
    assert queries() == few


def test_a_manager_sees_their_groups_and_unscoped_keys(console: Console, manager: Member) -> None:
    make_key("theirs", consumer_group=make_group(managers=[manager]))
    make_key("anybodys", consumer_group=make_group())
    make_key("another", consumer_group=make_group(managers=[make_member("manager")]))
    make_key("unscoped")
    assert set(names(console(manager))) == {"theirs", "anybodys", "unscoped"}


def test_search_finds_name_description_id_and_every_versions_hint(console: Console, admin: Member) -> None:
    issued = make_key("billing", description="refunds of the shop")
    make_key("other")
    lifecycle.rotate(actor=TESTS, key_id=issued.key.pk, grace=timedelta(0))
    client = console(admin)
    for text in ("BILL", "refunds", "shop refunds", str(issued.key.pk), issued.version.hint, issued.value):
        assert names(client, q=text) == ["billing"], text
    assert names(client, q="nothing of the kind") == []


def test_search_finds_a_key_by_the_start_of_its_id_and_by_four_characters_of_its_hint(
    console: Console, admin: Member
) -> None:
    issued = make_key("billing")
    client = console(admin)
    text = str(issued.key.pk)
    for start in (text[:8], text[:13], text[:30].upper(), issued.key.hint.removeprefix("kt_gk_")):
        assert names(client, q=start) == ["billing"], start
    # A dash where no id has one, and more than an id.
    assert names(client, q=f"{text[:6]}-{text[6:8]}") == []
    assert names(client, q=f"{text}0") == []


def test_status_filter_narrows_to_one_or_several(console: Console, admin: Member) -> None:
    make_key("active")
    lifecycle.disable(actor=TESTS, key_id=make_key("disabled").key.pk)
    lifecycle.revoke(actor=TESTS, key_id=make_key("revoked").key.pk)
    client = console(admin)
    assert names(client, status="disabled") == ["disabled"]
    assert set(names(client, status=["active", "revoked"])) == {"active", "revoked"}


def test_group_filter_offers_what_the_member_sees(console: Console, manager: Member) -> None:
    group = make_group("payments", name="Payments")
    hidden = make_group("security", name="Security", managers=[make_member("manager")])
    make_key("scoped", consumer_group=group)
    make_key("unscoped")
    client = console(manager)
    assert names(client, consumer_group=group.pk) == ["scoped"]
    page = text_of(client.get(KEYS))
    assert group.name in page
    assert hidden.name not in page


def test_filters_for_who_tidies_up(console: Console, admin: Member) -> None:
    now = clock.now()
    group = make_group()
    with time_machine.travel(now - timedelta(days=45), tick=False):
        old = make_key("old", consumer_group=group, expires_at=now + timedelta(days=10)).key
        never = make_key("never", consumer_group=group, expires_at=now + timedelta(days=100)).key
    busy = make_key("busy", expires_at=None).key
    used(old, last_used_at=now - timedelta(days=40))
    used(busy, last_used_at=now)
    client = console(admin)
    assert set(names(client, attention="unused")) == {"old", "never"}
    assert names(client, attention="never_used") == [never.name]
    assert names(client, attention="no_expiry") == ["busy"]
    assert names(client, attention="unscoped") == ["busy"]
    assert names(client, attention=["unused", "never_used"]) == ["never"]
    assert names(client, expiring_within=14) == ["old"]


@pytest.mark.parametrize("days", ["x", "-1", "0", "1.5", "9" * 30])
def test_a_number_of_days_that_is_none_is_said_and_shows_nothing(days: str, console: Console, admin: Member) -> None:
    make_key()
    response = console(admin).get(KEYS, {"expiring_within": days})
    assert "takes a whole number of days" in response.content.decode()
    assert names(console(admin), expiring_within=days) == []


def test_sorting_puts_what_has_no_value_last_both_ways(console: Console, admin: Member) -> None:
    now = clock.now()
    first, second = make_key("first", expires_at=now + timedelta(days=1)), make_key("second")
    make_key("third", expires_at=now + timedelta(days=2))
    used(first.key, last_used_at=now - timedelta(days=1), requests_24h=5)
    used(second.key, last_used_at=now, requests_24h=3)
    client = console(admin)
    columns = ["name", "status", "group", "hint", "created", "expires", "last_used", "requests"]
    by = {column: number for number, column in enumerate(columns, start=1)}
    assert names(client, o=by["expires"]) == ["first", "third", "second"]
    assert names(client, o=-by["expires"]) == ["third", "first", "second"]
    assert names(client, o=by["last_used"]) == ["first", "second", "third"]
    assert names(client, o=-by["last_used"]) == ["second", "first", "third"]
    assert names(client, o=-by["requests"]) == ["first", "second", "third"]
    # No request is 0 requests.
    assert names(client, o=by["requests"]) == ["third", "second", "first"]
    for number in by.values():
        assert len(names(client, o=number)) == 3


def test_status_sorts_in_its_order_of_precedence(console: Console, admin: Member) -> None:
    make_key("active")
    lifecycle.disable(actor=TESTS, key_id=make_key("disabled").key.pk)
    lifecycle.revoke(actor=TESTS, key_id=make_key("revoked").key.pk)
    assert names(console(admin), o=2) == ["revoked", "disabled", "active"]


def test_the_menu_of_a_row_offers_what_its_state_allows(console: Console, admin: Member) -> None:
    active, rotating, disabled, revoked = (make_key(name).key for name in ("active", "rotating", "disabled", "revoked"))
    expired = make_key("expired", expires_at=clock.now() + timedelta(hours=1)).key
    lifecycle.rotate(actor=TESTS, key_id=rotating.pk, grace=timedelta(hours=9))
    lifecycle.disable(actor=TESTS, key_id=disabled.pk)
    lifecycle.revoke(actor=TESTS, key_id=revoked.pk)
    with time_machine.travel(clock.now() + timedelta(hours=2)):
        client = console(admin)
        assert menu(client, active) == ["Edit", "Rotate", "Disable", "Revoke"]
        assert menu(client, rotating) == ["Edit", "Rotate", "Extend grace", "End grace", "Disable", "Revoke"]
        assert menu(client, disabled) == ["Edit", "Enable", "Revoke"]
        assert menu(client, expired) == ["Revoke"]
        assert menu(client, revoked) == []


def test_the_menu_of_a_row_offers_what_the_role_allows(console: Console, manager: Member, auditor: Member) -> None:
    theirs = make_key("theirs", consumer_group=make_group()).key
    make_group(managers=[make_member("manager")])  # so that not every group is theirs
    unscoped = make_key("unscoped").key
    assert menu(console(manager), theirs) == ["Edit", "Rotate", "Disable", "Revoke"]
    assert menu(console(manager), unscoped) == []
    assert menu(console(auditor), theirs) == []


def test_edit_leads_to_the_form_and_back_to_the_same_filters(console: Console, admin: Member) -> None:
    key, client = make_key("billing").key, console(admin)
    link = re.search(r'href="([^"]*/edit/[^"]*)"', client.get(KEYS, {"q": "bil", "status": "active"}).content.decode())
    assert link
    form = client.get(unescape(link[1])).headers["Location"]
    assert form == f"{KEYS}{key.pk}/change/?_changelist_filters=q%3Dbil%26status%3Dactive#edit"
    assert f'href="{KEYS}?q=bil&amp;status=active"' in client.get(form).content.decode()


def test_only_who_may_create_is_offered_to(console: Console, manager: Member, auditor: Member) -> None:
    assert "Create Gateway Key" in console(manager).get(KEYS).content.decode()
    assert "Create Gateway Key" not in console(auditor).get(KEYS).content.decode()


def test_nothing_can_be_deleted(console: Console, admin: Member) -> None:
    key = make_key().key
    client = console(admin)
    assert "delete" not in client.get(KEYS).content.decode().lower()
    assert client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(KEYS, {"action": "delete_selected", "_selected_action": [str(key.pk)], "post": "yes"})
    assert GatewayKey.objects.filter(pk=key.pk).exists()


def test_the_page_runs_no_inline_script(console: Console, admin: Member) -> None:
    make_key()
    page = console(admin).get(KEYS).content.decode()
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts
    assert all("src=" in script or "application/json" in script for script in scripts)


def test_a_row_whose_id_is_none_is_a_bad_request(console: Console, admin: Member) -> None:
    make_key()
    answer = console(admin).post(KEYS, {"action": "revoke_selected", "_selected_action": ["no-uuid"]})
    assert answer.status_code == 400

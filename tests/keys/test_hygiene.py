"""The hygiene page: each concern with exactly the keys that its list shows, for who looks and for who cleans up."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from importlib import import_module
from typing import Any

import time_machine
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access.members import edit_member
from access.models import Member
from audit import clock
from keys import lifecycle
from keys.groups import edit_group
from keys.hygiene import CONCERNS
from keys.models import GatewayKey
from tests.factories import TESTS, actor_of, make_group, make_key, make_member
from tests.keys.conftest import KEYS, Console, text_of
from usage.models import KeyMetrics

HYGIENE = "/admin/hygiene/"


def counts(page: Any) -> dict[str, int]:
    """Return how many keys the page counts for each concern that it found."""
    return {found.concern.slug: found.count for found, _ in page.context["sections"]}


def fixes(page: Any) -> dict[str, list[str]]:
    return {found.concern.slug: [fix.slug for fix in fixes] for found, fixes in page.context["sections"]}


def sound(name: str, **particulars: Any) -> GatewayKey:
    """Make a key that nothing is wrong with, unless `particulars` say otherwise."""
    particulars = {
        "consumer_group": make_group(),
        "expires_at": clock.now() + timedelta(days=100),
        "owner": make_member(),
        **particulars,
    }
    key = make_key(name, **particulars).key
    KeyMetrics.objects.create(key=key, last_used_at=clock.now())
    return key


def one_of_each() -> dict[str, list[str]]:
    """Make keys that something is wrong with; return, by concern, the names of those that it is wrong with."""
    now = clock.now()
    sound("sound")
    sound("this-week", expires_at=now + timedelta(days=6))
    sound("this-month", expires_at=now + timedelta(days=20))
    sound("for-ever", expires_at=None)
    sound("everywhere", consumer_group=None)
    sound("orphan", owner=None)
    left = make_member()
    sound("left-behind", owner=left)
    edit_member(actor=TESTS, member_id=left.pk, changed={"is_active": False})
    strict = sound("too-late")
    edit_group(
        actor=TESTS, group_id=strict.consumer_group_id or 0, changed={"max_lifetime_days": 60}, existing_keys="leave"
    )
    lingering, brief = sound("lingers"), sound("brief")
    lifecycle.rotate(actor=TESTS, key_id=lingering.pk, grace=timedelta(days=10), renew_expiry=False)
    lifecycle.rotate(actor=TESTS, key_id=brief.pk, grace=timedelta(hours=1), renew_expiry=False)
    with time_machine.travel(now - timedelta(days=45), tick=False):
        sound("sleeps", expires_at=now + timedelta(days=100))
        make_key("untouched", consumer_group=make_group(), expires_at=now + timedelta(days=100), owner=make_member())
    make_key("new", consumer_group=make_group(), expires_at=now + timedelta(days=100), owner=make_member())
    for verb in (lifecycle.revoke, lifecycle.disable):
        verb(actor=TESTS, key_id=make_key(expires_at=None).key.pk)
    return {
        "expiring_7": ["this-week"],
        "expiring_30": ["this-month", "this-week"],
        "long_grace": ["lingers"],
        "unused": ["sleeps", "untouched"],
        "never_used": ["untouched"],
        "breaches_policy": ["too-late"],
        "no_expiry": ["for-ever"],
        "unscoped": ["everywhere"],
        "owner_left": ["left-behind", "orphan"],
    }


def test_each_concern_names_the_keys_that_it_fits(console: Console, auditor: Member) -> None:
    expected = one_of_each()
    page = console(auditor).get(HYGIENE)
    named = {found.concern.slug: sorted(key.name for key, _, _ in found.keys) for found, _ in page.context["sections"]}
    assert named == expected
    assert counts(page) == {slug: len(names) for slug, names in expected.items()}


def test_every_count_leads_to_a_list_of_exactly_these_keys(console: Console, admin: Member) -> None:
    expected = one_of_each()
    client = console(admin)
    page = client.get(HYGIENE)
    for found, _ in page.context["sections"]:
        assert f'href="{found.link.replace("&", "&amp;")}"' in page.content.decode()
        listed = client.get(found.link).context["cl"].result_list
        assert sorted(key.name for key in listed) == expected[found.concern.slug], found.title


def test_every_fix_that_is_offered_shows_what_it_would_do(console: Console, admin: Member) -> None:
    expected = one_of_each()
    client = console(admin)
    page = client.get(HYGIENE)
    offered = {unescape(link) for link in re.findall(r'href="(/admin/hygiene/[^"]+)"', page.content.decode())}
    assert len(offered) == sum(len(concern.fixes) for concern in CONCERNS.values())
    before = list(GatewayKey.objects.order_by("pk").values())
    for link in offered:
        preview = client.get(link)
        assert sorted(key.name for key in preview.context["keys"]) == expected[link.rpartition("=")[2]], link
    assert list(GatewayKey.objects.order_by("pk").values()) == before


def test_a_concern_that_is_none_is_not_found(console: Console, admin: Member) -> None:
    assert console(admin).get(f"{HYGIENE}revoke/?concern=no-such").status_code == 404


def test_an_auditor_sees_the_page_without_fixes(console: Console, auditor: Member) -> None:
    one_of_each()
    page = console(auditor).get(HYGIENE)
    assert not any(fixes(page).values())
    assert "Your role looks and does not change" in text_of(page)


def test_a_manager_cleans_up_what_they_see(console: Console, manager: Member) -> None:
    make_key("hidden", consumer_group=make_group(managers=[make_member("manager")]), expires_at=None)
    make_key("mine", consumer_group=make_group(managers=[manager]), expires_at=None)
    page = console(manager).get(HYGIENE)
    assert counts(page)["no_expiry"] == 1
    assert fixes(page)["no_expiry"] == ["set-expiry"]
    assert "hidden" not in text_of(page)


def test_a_console_in_order_says_so(console: Console, admin: Member) -> None:
    assert "Nothing needs cleaning up" in text_of(console(admin).get(HYGIENE))


def test_the_page_costs_the_same_however_many_keys_there_are(console: Console, manager: Member) -> None:
    one_of_each()
    client = console(manager)
    client.get(HYGIENE)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get(HYGIENE)
    assert len(queries) <= 17
    for number in range(4):
        sound(f"more-{number}", owner=None, expires_at=None, consumer_group=None)
    with CaptureQueriesContext(connection) as more:
        client.get(HYGIENE)
    assert len(more) == len(queries)


# --- owners -----------------------------------------------------------------------------------------------------------


def test_who_makes_a_key_in_the_console_owns_it_unless_they_name_another(
    console: Console, admin: Member, auditor: Member
) -> None:
    client = console(admin)
    assert f'<option value="{admin.pk}" selected>' in client.get(f"{KEYS}add/").content.decode()
    page = client.get(f"{KEYS}add/").content.decode()
    token = re.findall(r'name="form_token" value="([^"]*)"', page)[0]
    sent = {"name": "theirs", "expiry": "90", "owner": auditor.pk, "form_token": token}
    client.post(f"{KEYS}add/", {**sent, "consumer_group": "", "description": "", "allowed_networks": ""})
    assert GatewayKey.objects.get().owner == auditor


def test_keys_from_before_there_were_owners_belong_to_who_made_them(admin: Member) -> None:
    mine, systems = make_key(actor=actor_of(admin), owner=None).key, make_key().key
    import_module("keys.migrations.0003_owner").name_owners(apps, None)
    mine.refresh_from_db()
    systems.refresh_from_db()
    assert (mine.owner, systems.owner) == (admin, None)


def test_the_list_narrows_to_the_keys_of_one_owner_or_of_nobody(
    console: Console, admin: Member, manager: Member
) -> None:
    make_key("mine", owner=admin)
    make_key("theirs", owner=manager)
    make_key("orphan", owner=None)
    client = console(admin)
    for value, names in ((str(admin.pk), ["mine"]), ("nobody", ["orphan"]), ("x", []), ("9" * 30, [])):
        listed = client.get(f"{KEYS}?owner={value}").context["cl"].result_list
        assert [key.name for key in listed] == names


def test_the_page_of_a_key_says_that_its_owner_has_left(console: Console, admin: Member) -> None:
    left = make_member(username="leonie.left")
    key = make_key(owner=left).key
    page = f"{KEYS}{key.pk}/change/"
    assert "has left" not in text_of(console(admin).get(page))
    edit_member(actor=TESTS, member_id=left.pk, changed={"is_active": False})
    assert "leonie.left has left" in text_of(console(admin).get(page))

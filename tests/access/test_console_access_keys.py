"""Access keys in the console: shown once, revoked at once, everybody's own."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from access.access_keys import find_usable, revoke_access_key
from access.models import AccessKey, Member
from access.tokens import digest
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from tests.factories import TESTS, make_access_key, make_group, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, confirmed, main_of, secret_of, text_of

KEYS = "/admin/access/accesskey/"


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_a_member_creates_an_access_key_that_is_shown_once(browser: BrowserOf, role: str) -> None:
    member = make_member(role)
    client = browser(member)
    response = client.post(f"{KEYS}add/", {"name": "laptop", "lifetime": "30", "form_token": uuid4()})
    value = secret_of(response)
    key = AccessKey.objects.get()
    assert key.owner == member
    assert bytes(key.digest) == digest(value)
    assert find_usable(value) == key
    assert key.expires_at is not None
    assert timedelta(days=29, hours=23) < key.expires_at - clock.now() <= timedelta(days=30)
    assert "no-store" in response["Cache-Control"]
    assert value not in client.get(f"{KEYS}{key.pk}/change/").content.decode()
    assert value not in client.get(KEYS).content.decode()
    assert value not in str(list(client.session.items()))
    assert value not in str(client.cookies)


def test_a_form_sent_twice_makes_one_key(browser: BrowserOf, admin: Member) -> None:
    client, sent = browser(admin), {"name": "laptop", "lifetime": "90", "form_token": uuid4()}
    first = client.post(f"{KEYS}add/", sent)
    again = client.post(f"{KEYS}add/", sent)
    assert again.status_code == 409
    assert secret_of(first) not in again.content.decode()
    assert AccessKey.objects.count() == 1


def test_revoke_refuses_the_value_at_once(browser: BrowserOf, manager: Member) -> None:
    issued = make_access_key(manager)
    dialog = f"{KEYS}{issued.access_key.pk}/revoke/"
    client = browser(manager)
    assert "This cannot be undone." in text_of(client.get(dialog))
    assert find_usable(issued.value) is not None
    assert client.post(dialog, confirmed()).headers["HX-Refresh"] == "true"
    assert find_usable(issued.value) is None
    assert AuditEntry.objects.filter(action=AuditAction.ACCESS_KEY_REVOKED, actor_id=str(manager.pk)).count() == 1


def test_a_revoked_key_offers_no_revoking(browser: BrowserOf, manager: Member) -> None:
    key = make_access_key(manager).access_key
    revoke_access_key(actor=TESTS, access_key_id=key.pk)
    client = browser(manager)
    assert "/revoke/" not in client.get(f"{KEYS}{key.pk}/change/").content.decode()
    assert "revoked already" in text_of(client.get(f"{KEYS}{key.pk}/revoke/"))


def test_members_see_their_own_and_admins_see_all(browser: BrowserOf, admin: Member, manager: Member) -> None:
    make_access_key(admin, name="of-ada")
    make_access_key(manager, name="of-max")
    assert column(browser(manager).get(KEYS), "name") == ["of-max"]
    assert sorted(column(browser(admin).get(KEYS), "name")) == ["of-ada", "of-max"]
    assert column(browser(manager).get(KEYS), "owner") == []
    assert sorted(column(browser(admin).get(KEYS), "owner")) == ["ada.admin", "max.manager"]


def test_somebody_elses_key_does_not_exist(browser: BrowserOf, manager: Member, auditor: Member) -> None:
    key = make_access_key(auditor).access_key
    client = browser(manager)
    assert client.get(f"{KEYS}{key.pk}/change/").status_code == 404
    assert client.post(f"{KEYS}{key.pk}/revoke/", confirmed()).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None


def test_an_access_key_can_be_renamed_until_it_is_revoked(browser: BrowserOf, manager: Member) -> None:
    key = make_access_key(manager).access_key
    client, page = browser(manager), f"{KEYS}{key.pk}/change/"
    assert client.post(page, {"name": "other"}).status_code == 302
    key.refresh_from_db()
    assert key.name == "other"
    entry = AuditEntry.objects.get(action=AuditAction.ACCESS_KEY_EDITED)
    assert (entry.before, entry.after) == ({"name": "tests"}, {"name": "other"})
    revoke_access_key(actor=TESTS, access_key_id=key.pk)
    assert 'name="name"' not in client.get(page).content.decode()
    assert client.post(page, {"name": "third"}).status_code in {302, 403}
    key.refresh_from_db()
    assert key.name == "other"


def test_the_form_limits_a_key_to_reading_and_to_groups_that_the_member_sees(
    browser: BrowserOf, manager: Member
) -> None:
    own, foreign = make_group("search", managers=[manager]), make_group("payments", managers=[make_member("manager")])
    client = browser(manager)
    assert foreign.name not in main_of(client.get(f"{KEYS}add/"))
    sent = {"name": "limited", "lifetime": "7", "read_only": "on", "form_token": uuid4()}
    assert "Select a valid choice" in text_of(client.post(f"{KEYS}add/", {**sent, "consumer_groups": [foreign.pk]}))
    assert "read-only · only search" in text_of(client.post(f"{KEYS}add/", {**sent, "consumer_groups": [own.pk]}))
    key = AccessKey.objects.get()
    assert (key.read_only, key.group_slugs()) == (True, ["search"])
    assert column(client.get(KEYS), "limits") == ["Read-only · only search"]


def test_never_is_offered_only_where_there_is_no_ceiling(
    browser: BrowserOf, auditor: Member, settings: Settings
) -> None:
    client, sent = browser(auditor), {"name": "for good", "lifetime": "", "form_token": uuid4()}
    assert "Never" not in main_of(client.get(f"{KEYS}add/"))
    assert "Choose when it expires." in text_of(client.post(f"{KEYS}add/", sent))
    settings.KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME = timedelta(days=30)
    settings.KEEPTRUSTS_ACCESS_KEY_LIFETIME = timedelta(days=14)
    page = main_of(client.get(f"{KEYS}add/"))
    assert all(words in page for words in ("7 days", "14 days", "30 days"))
    assert "90 days" not in page
    settings.KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME = None
    assert "Never" in main_of(client.get(f"{KEYS}add/"))
    assert secret_of(client.post(f"{KEYS}add/", sent)).startswith("kt_ak_")
    assert AccessKey.objects.get().expires_at is None


@pytest.mark.parametrize(("status", "expected"), [("active", "one"), ("expired", "two"), ("revoked", "three")])
def test_the_status_filter_finds_its_own(browser: BrowserOf, admin: Member, status: str, expected: str) -> None:
    make_access_key(admin, name="one")
    two = make_access_key(admin, name="two").access_key
    AccessKey.objects.filter(pk=two.pk).update(
        created_at=clock.now() - timedelta(days=2), expires_at=clock.now() - timedelta(days=1)
    )
    three = make_access_key(admin, name="three").access_key
    revoke_access_key(actor=TESTS, access_key_id=three.pk)
    assert column(browser(admin).get(KEYS, {"status": status}), "name") == [expected]


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, django_assert_num_queries: DjangoAssertNumQueries, role: str, count: int
) -> None:
    member = make_member(role)
    for _ in range(count):
        make_access_key(member)
    client = browser(member)
    # session, member, count, rows, their groups; for Admins the owners to filter by
    with django_assert_num_queries(6 if role == "admin" else 5):
        client.get(KEYS)


def test_the_empty_list_says_so(browser: BrowserOf, auditor: Member) -> None:
    page = main_of(browser(auditor).get(KEYS))
    assert "No access keys yet" in page
    assert page.count("Create Access Key") == 2
    assert "Nothing fits" in main_of(browser(auditor).get(KEYS, {"q": "nothing is called this"}))


def test_the_form_says_what_its_button_does(browser: BrowserOf, auditor: Member) -> None:
    page = main_of(browser(auditor).get(f"{KEYS}add/"))
    assert "Create and show the value Cancel" in page

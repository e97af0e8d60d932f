"""Consumer groups in the console: a policy that explains itself."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from access.members import edit_member
from access.models import Member
from access.rules import Role
from audit.actions import AuditAction
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import ConsumerGroup
from keys.visibility import manages_group
from tests.factories import TESTS, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, main_of, save

GROUPS = "/admin/keys/consumergroup/"


def page_of(group: ConsumerGroup) -> str:
    return f"{GROUPS}{group.pk}/change/"


def particulars(**given: Any) -> dict[str, Any]:
    empty = ("description", "default_lifetime_days", "max_lifetime_days", "idle_days", "max_grace_seconds")
    return {"name": "Payments", "slug": "payments", "allowed_networks": "", **dict.fromkeys(empty, ""), **given}


def test_an_admin_creates_a_group_with_its_policy(browser: BrowserOf, admin: Member, manager: Member) -> None:
    sent = particulars(
        managers=[manager.pk],
        default_lifetime_days="30",
        max_lifetime_days="90",
        expiry_required="on",
        max_grace_seconds="86400",
        allowed_networks="10.0.0.0/8\n\n2001:db8::/32\n",
    )
    assert browser(admin).post(f"{GROUPS}add/", sent).status_code == 302
    group = ConsumerGroup.objects.get()
    assert group.allowed_networks == ["10.0.0.0/8", "2001:db8::/32"]
    assert list(group.managers.all()) == [manager]
    response = browser(admin).get(GROUPS)
    assert column(response, "policy") == ["at most 90 days · 30 days by default · grace up to 1 day · 2 networks"]
    assert column(response, "managed_by") == ["max.manager"]


def test_the_form_shows_one_network_a_line(browser: BrowserOf, admin: Member) -> None:
    group = make_group(allowed_networks=["10.0.0.0/8", "192.0.2.1/32"])
    assert "10.0.0.0/8\n192.0.2.1/32" in browser(admin).get(page_of(group)).content.decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"allowed_networks": "10.0.0.1/8"}, "has host bits set"),
        ({"allowed_networks": "nonsense"}, "“nonsense” is not a network"),
        ({"default_lifetime_days": "90", "max_lifetime_days": "30"}, "This is longer than the maximum lifetime."),
        ({"slug": "Pay ments"}, "Enter a valid “slug”"),
        ({"max_lifetime_days": "0"}, "greater than or equal to 1"),
        ({"name": ""}, "This field is required."),
    ],
)
def test_what_is_wrong_is_said_at_the_field(
    browser: BrowserOf, admin: Member, given: dict[str, str], said: str
) -> None:
    response = browser(admin).post(f"{GROUPS}add/", particulars(**given))
    page = main_of(response)
    assert said in page
    assert "Constraint" not in page
    assert not ConsumerGroup.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_who_creates_a_group_while_somebody_else_creates_the_same_is_told_so(browser: BrowserOf, admin: Member) -> None:
    client, written = browser(admin), threading.Event()

    def somebody_else() -> None:
        try:
            with transaction.atomic():
                make_group("payments", name="Payments")
                written.set()
                time.sleep(1)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(somebody_else)
        assert written.wait(30)
        response = client.post(f"{GROUPS}add/", particulars())
        other.result()
    assert response.status_code == 200
    assert "already exists" in main_of(response)
    assert ConsumerGroup.objects.count() == 1


def test_an_edit_names_only_what_changed(browser: BrowserOf, admin: Member) -> None:
    group = make_group("payments", name="Payments", allowed_networks=["10.0.0.0/8"])
    sent = particulars(name="Payments", allowed_networks="10.0.0.0/8", idle_days="45")
    save(browser(admin), page_of(group), sent)
    entry = AuditEntry.objects.get(action=AuditAction.GROUP_EDITED)
    assert (entry.before, entry.after) == ({"idle_days": None}, {"idle_days": 45})


def test_the_slug_is_prefilled_and_then_fixed(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    assert "prepopulated" in client.get(f"{GROUPS}add/").content.decode()
    group = make_group("payments")
    save(client, page_of(group), particulars(slug="other"))
    group.refresh_from_db()
    assert (group.slug, group.name) == ("payments", "Payments")


def test_a_member_who_is_no_manager_cannot_be_named(browser: BrowserOf, admin: Member, auditor: Member) -> None:
    response = browser(admin).post(f"{GROUPS}add/", particulars(managers=[auditor.pk]))
    assert "not one of the available choices" in main_of(response)
    assert not ConsumerGroup.objects.exists()


def test_saving_a_group_does_not_hand_it_to_every_manager_because_its_own_is_none_any_more(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    group, other = make_group("payments", name="Payments", managers=[manager]), make_member(Role.MANAGER)
    edit_member(actor=TESTS, member_id=manager.pk, changed={"role": Role.AUDITOR.value})
    client = browser(admin)
    chosen = re.findall(r'<option value="(\d+)" selected', client.get(page_of(group)).content.decode())
    save(client, page_of(group), particulars(managers=chosen, idle_days="45"))
    group.refresh_from_db()
    assert (group.idle_days, list(group.managers.all())) == (45, [manager])
    assert not manages_group(other, group)


def test_live_keys_are_those_that_are_accepted(browser: BrowserOf, admin: Member) -> None:
    group = make_group()
    make_key(consumer_group=group)
    revoked = make_key(consumer_group=group).key
    lifecycle.revoke(actor=TESTS, key_id=revoked.pk)
    make_key()
    assert column(browser(admin).get(GROUPS), "live_keys") == ["1"]
    assert "1 live key" in main_of(browser(admin).get(page_of(group)))


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_others_look_and_change_nothing(browser: BrowserOf, role: str) -> None:
    group = make_group("payments", allowed_networks=["10.0.0.0/8"])
    client = browser(make_member(role))
    page = client.get(page_of(group))
    assert "10.0.0.0/8" in main_of(page)
    assert '"10.0.0.0/8"' not in main_of(page)
    assert "Save" not in main_of(page)
    assert save(client, page_of(group), particulars(name="Mine")).status_code == 403
    assert client.post(f"{GROUPS}add/", particulars()).status_code == 403
    assert client.get(f"{GROUPS}add/").status_code == 403
    assert ConsumerGroup.objects.get().name == "payments"


def test_a_manager_sees_the_groups_they_manage(browser: BrowserOf, manager: Member) -> None:
    make_group("mine", managers=[manager])
    make_group("everybodys")
    others = make_group("others", managers=[make_member("manager")])
    client = browser(manager)
    assert column(client.get(GROUPS), "name") == ["everybodys", "mine"]
    assert client.get(page_of(others)).status_code == 404


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, django_assert_num_queries: DjangoAssertNumQueries, role: str, count: int
) -> None:
    member = make_member(role)
    managers = [member] if role == "manager" else []
    for _ in range(count):
        make_key(consumer_group=make_group(managers=managers))
    client = browser(member)
    # session, member, count, rows, managers
    with django_assert_num_queries(5):
        client.get(GROUPS)

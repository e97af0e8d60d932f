"""The audit log in the console: read, found, and proved; written by nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from audit.reading import span
from audit.recording import Subject, record
from audit.sealing import seal
from keys import lifecycle
from tests.factories import TESTS, actor_of, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, main_of, text_of

LOG = "/admin/audit/auditentry/"
VERIFY = f"{LOG}verify/"


def make_entry(**facts: Any) -> AuditEntry:
    about = {name: facts.pop(f"object_{name}") for name in ("type", "id", "label") if f"object_{name}" in facts}
    subject = Subject(**{"type": "gateway_key", **about})
    given: dict[str, Any] = {"action": AuditAction.KEY_EDITED, "actor": TESTS, "about": subject, **facts}
    with transaction.atomic():
        return record(**given)


def page_of(entry: AuditEntry) -> str:
    return f"{LOG}{entry.pk}/change/"


def actions(client: Client, **query: str) -> list[str]:
    return column(client.get(LOG, query), "what")


def test_a_row_says_who_did_what_to_which_object(browser: BrowserOf, auditor: Member, admin: Member) -> None:
    client = browser(auditor)
    key = make_key("billing").key
    lifecycle.revoke(actor=actor_of(admin), key_id=key.pk, reason="leaked")
    response = client.get(LOG)
    assert column(response, "what")[0] == "Key revoked"
    assert column(response, "object_text")[0] == "Gateway key billing"
    assert column(response, "actor_text")[0] == "ada.admin"
    assert f'href="/admin/keys/gatewaykey/{key.pk}/change/"' in response.content.decode()


@pytest.mark.parametrize(
    ("object_type", "words", "page", "whose"),
    [
        ("policy", "Policy it", "/admin/policy/", "everybody"),
        ("report", "Report it", "/admin/reports/", "everybody"),
        ("webhook_endpoint", "Webhook endpoint it", "/admin/webhooks/webhookendpoint/7/change/", "admins"),
        ("member", "Member it", "/admin/access/member/7/change/", "admins"),
        ("access_key", "Access key it", "/admin/access/accesskey/7/change/", "admins"),
    ],
)
def test_what_an_entry_is_about_leads_to_its_page_whom_it_opens_for(
    browser: BrowserOf, admin: Member, auditor: Member, object_type: str, words: str, page: str, whose: str
) -> None:
    entry = make_entry(object_type=object_type, object_id="7", object_label="it")
    for member, leads in ((admin, True), (auditor, whose == "everybody")):
        client = browser(member)
        for response in (client.get(LOG, {"object_type": object_type}), client.get(page_of(entry))):
            assert words in main_of(response)
            assert (f'href="{page}"' in response.content.decode().partition('id="main"')[2]) is leads


def test_before_and_after_are_a_table_that_reads(browser: BrowserOf, auditor: Member) -> None:
    until = clock.now().replace(microsecond=0)
    entry = make_entry(
        before={"expires_at": None, "lifetime": None, "allowed_networks": []},
        after={"expires_at": until, "lifetime": timedelta(days=90), "allowed_networks": ["10.0.0.0/8", "192.0.2.0/24"]},
        detail={"grace_seconds": timedelta(hours=1), "version": 2},
    )
    page = main_of(browser(auditor).get(page_of(entry)))
    assert f"Expires at — {until:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "Lifetime — 90 days" in page
    assert "Allowed networks — 10.0.0.0/8, 192.0.2.0/24" in page
    assert "Grace 1 hour" in page


def test_groups_are_told_by_their_names(browser: BrowserOf, admin: Member, auditor: Member) -> None:
    payments, search = make_group("payments", name="Payments"), make_group("search", name="Search & shop")
    key = make_key("billing", consumer_group=payments).key
    lifecycle.edit(actor=actor_of(admin), key_id=key.pk, changed={"consumer_group": search})
    edited = AuditEntry.objects.get(action=AuditAction.KEY_EDITED)
    page = main_of(browser(auditor).get(page_of(edited)))
    assert "Consumer group Payments (payments) Search & shop (search)" in page
    assert "Consumer group id" not in page
    # What is proved is what was recorded.
    assert (edited.before["consumer_group"], edited.after["consumer_group_id"]) == ("payments", search.pk)


def test_of_a_new_object_only_what_it_has_is_told(browser: BrowserOf, auditor: Member) -> None:
    make_key("billing", expires_at=None)
    page = main_of(browser(auditor).get(page_of(AuditEntry.objects.get(action=AuditAction.KEY_CREATED))))
    assert "Name billing" in page
    assert "Revoked at" not in page


def test_a_group_that_a_manager_does_not_see_is_told_as_it_is_recorded(browser: BrowserOf, manager: Member) -> None:
    theirs = make_group("payments", name="Payments", managers=[manager])
    other = make_group("search", name="Search & shop", managers=[make_member("manager")])
    key = make_key("billing", consumer_group=other).key
    lifecycle.edit(actor=TESTS, key_id=key.pk, changed={"consumer_group": theirs})
    page = main_of(browser(manager).get(page_of(AuditEntry.objects.get(action=AuditAction.KEY_EDITED))))
    assert "Consumer group search Payments (payments)" in page
    assert "Search & shop" not in page


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "none"),
        (1, "1 second"),
        (5_400, "1 hour 30 minutes"),
        (90 * 86_400, "90 days"),
        (2_000 * 86_400, "2,000 days"),
    ],
)
def test_a_span_is_told_to_the_second(seconds: int, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_what_people_wrote_is_shown_as_text(browser: BrowserOf, auditor: Member) -> None:
    entry = make_entry(object_label="<script>alert(1)</script>", after={"name": "<b>bold</b>"})
    page = browser(auditor).get(page_of(entry)).content.decode()
    assert "<script>alert" not in page
    assert "<b>bold" not in page


def test_an_entry_says_whether_it_is_sealed(browser: BrowserOf, auditor: Member) -> None:
    entry = make_entry()
    client = browser(auditor)
    assert "Not yet" in main_of(client.get(page_of(entry)))
    seal()
    assert entry.leaf_hash().hex() in main_of(client.get(page_of(entry)))


def test_filters_and_search_find_their_own(browser: BrowserOf, auditor: Member, admin: Member) -> None:
    make_entry(action=AuditAction.KEY_REVOKED, object_id="11", object_label="billing", actor=actor_of(admin))
    make_entry(action=AuditAction.GATEWAY_EDITED, object_type="gateway", object_id="22", object_label="edge")
    client = browser(auditor)
    assert actions(client, action__exact=AuditAction.KEY_REVOKED.value) == ["Key revoked"]
    assert actions(client, object_type="gateway") == ["Gateway edited"]
    assert actions(client, actor_kind="member", q="billing") == ["Key revoked"]
    assert actions(client, q="22") == ["Gateway edited"]
    assert actions(client, q="ada.admin", object_type="gateway_key") == ["Key revoked"]
    tomorrow = (clock.now() + timedelta(days=1)).date().isoformat()
    assert actions(client, at_from=tomorrow) == []


def test_a_manager_reads_their_own_actions_and_all_about_their_keys(browser: BrowserOf, manager: Member) -> None:
    mine = make_key("mine", consumer_group=make_group(managers=[manager])).key
    make_key("hidden", consumer_group=make_group(managers=[make_member("manager")]))
    hidden = AuditEntry.objects.get(object_label="hidden")
    client = browser(manager)
    labels = column(client.get(LOG, {"object_type": "gateway_key"}), "object_text")
    assert labels == [f"Gateway key {mine.name}"]
    assert client.get(page_of(hidden)).status_code == 404


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_nobody_writes_the_log(browser: BrowserOf, role: str) -> None:
    member = make_member(role)
    entry = make_entry(actor=actor_of(member), object_label="before")
    client = browser(member)
    assert client.get(f"{LOG}add/").status_code == 403
    assert client.post(f"{LOG}add/", {}).status_code == 403
    assert client.post(page_of(entry), {"object_label": "after"}).status_code == 403
    entry.refresh_from_db()
    assert entry.object_label == "before"


# --- proof ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "auditor"])
def test_verify_says_that_the_log_is_intact_and_records_it(browser: BrowserOf, role: str) -> None:
    member = make_member(role)
    seal()
    client = browser(member)
    assert "Verify now" in main_of(client.get(VERIFY))
    assert not AuditEntry.objects.filter(action=AuditAction.AUDIT_VERIFIED).exists()
    assert "The audit log is intact." in main_of(client.post(VERIFY))
    entry = AuditEntry.objects.get(action=AuditAction.AUDIT_VERIFIED)
    assert entry.actor_id == str(member.pk)
    assert entry.detail["valid"] is True


@pytest.mark.sqlite
def test_verify_names_what_was_touched(browser: BrowserOf, auditor: Member) -> None:
    entry = make_entry(object_label="as it was")
    seal()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_auditentry'")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {connection.ops.quote_name(name)}")
        cursor.execute("UPDATE audit_auditentry SET object_label = 'as it is told' WHERE id = %s", [entry.pk])
    page = main_of(browser(auditor).post(VERIFY))
    assert "The audit log was touched." in page
    assert f"Entry {entry.pk} is not what was sealed" in page
    assert AuditEntry.objects.get(action=AuditAction.AUDIT_VERIFIED).detail["valid"] is False


def test_an_entry_about_nothing_in_particular_is_called_by_its_action(browser: BrowserOf, auditor: Member) -> None:
    client = browser(auditor)
    client.post(VERIFY)
    entry = AuditEntry.objects.get(action=AuditAction.AUDIT_VERIFIED)
    page = text_of(client.get(f"{LOG}{entry.pk}/change/"))
    assert f"Audit log verified by {auditor.username}" in page
    assert "audit_entry" not in page


@pytest.mark.parametrize("role", ["admin", "auditor"])
def test_the_whole_log_is_exported_from_its_list(browser: BrowserOf, role: str) -> None:
    client = browser(make_member(role))
    assert "Export all (CSV)" in main_of(client.get(LOG))
    download: Any = client.get(f"{LOG}export/", follow=True)
    assert download.getvalue().startswith(b"id,at,action")


def test_a_manager_does_not_verify(browser: BrowserOf, manager: Member) -> None:
    client = browser(manager)
    assert client.get(VERIFY).status_code == 403
    assert client.post(VERIFY).status_code == 403
    assert "Verify now" not in main_of(client.get(LOG))


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, django_assert_num_queries: DjangoAssertNumQueries, role: str, count: int
) -> None:
    member = make_member(role)
    for _ in range(count):
        make_entry(actor=actor_of(member))
    client = browser(member)
    # session, member, rows, members to choose from: the log is not counted
    with django_assert_num_queries(4):
        client.get(LOG)

"""Sessions: how long they last, what is seen of them, who ends them; and a fresh proof before what is grave."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.test import Client

from access import members, sessions
from access.models import Member, MemberSession
from access.refusals import Forbidden
from audit import clock
from audit.models import AuditEntry
from tests.access.signing_in import type_password
from tests.factories import PASSWORD, actor_of, make_access_key, make_key
from tests.fixtures import BrowserOf
from tests.pages import SENT, confirmed, text_of

pytestmark = pytest.mark.django_db
ACCOUNT = "/admin/account/"
MEMBERS = "/admin/access/member/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def test_a_session_says_by_what_from_where_and_with_what_it_was_begun(admin: Member) -> None:
    client = Client(REMOTE_ADDR="192.0.2.7", headers={"user-agent": FIREFOX})
    type_password(client, admin)
    (mine,) = sessions.sessions_of(admin, current=client.session.session_key)
    assert (mine.device, mine.address, mine.method, mine.is_this) == ("Firefox on Linux", "192.0.2.7", "password", True)
    page = client.get(ACCOUNT)
    assert "Firefox on Linux this one 192.0.2.7 password" in text_of(page)
    assert str(client.session.session_key) not in page.content.decode()


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        ("curl/8.0", "curl/8.0"),
        ("<script>\x07é", "<script>"),
        ("", "unknown device"),
    ],
)
def test_a_device_is_called_what_people_call_it(rf: Any, agent: str, device: str) -> None:
    assert sessions.device_of(rf.get("/", headers={"user-agent": agent})) == device


def test_a_session_ends_twelve_hours_after_the_sign_in_however_busy_it_is(browser: BrowserOf, admin: Member) -> None:
    client, begun = browser(admin), clock.now()
    for minutes in range(30, 12 * 60, 30):
        with time_machine.travel(begun + timedelta(minutes=minutes)):
            assert client.get("/admin/preferences/").status_code == 200
    with time_machine.travel(begun + timedelta(hours=12, seconds=1)):
        assert client.get("/admin/preferences/").status_code == 302


def test_a_session_ends_an_hour_after_its_last_use(browser: BrowserOf, admin: Member) -> None:
    client, begun = browser(admin), clock.now()
    for minutes, status in ((50, 200), (100, 200), (161, 302)):
        with time_machine.travel(begun + timedelta(minutes=minutes)):
            assert client.get("/admin/preferences/").status_code == status


def test_when_it_was_last_used_is_written_once_a_minute(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    with time_machine.travel(clock.now() + timedelta(minutes=5), tick=False) as traveller:
        client.get("/admin/preferences/")
        first = MemberSession.objects.get().last_seen_at
        assert first == clock.now()
        traveller.shift(30)
        client.get("/admin/preferences/")
        assert MemberSession.objects.get().last_seen_at == first


def test_sessions_that_are_over_are_deleted(browser: BrowserOf, admin: Member, manager: Member) -> None:
    browser(admin)
    with time_machine.travel(clock.now() + timedelta(minutes=61)):
        browser(manager)
        call_command("clearsessions")
    assert [row.member for row in MemberSession.objects.all()] == [manager]


def test_the_key_of_a_session_is_another_after_sign_in_and_after_a_proof(admin: Member) -> None:
    client = Client()
    client.get("/admin/passkey-options/")
    before = client.session.session_key
    type_password(client, admin)
    signed_in = client.session.session_key
    client.post("/admin/confirm/", {"password": PASSWORD})
    assert len({before, signed_in, client.session.session_key}) == 3
    assert MemberSession.objects.count() == 1


# --- ending them ------------------------------------------------------------------------------------------------------


def test_a_member_ends_one_of_their_sessions(browser: BrowserOf, admin: Member, manager: Member) -> None:
    here, there, others = browser(admin), browser(admin), browser(manager)
    (other,) = [item for item in sessions.sessions_of(admin, current=here.session.session_key) if not item.is_this]
    (foreign,) = sessions.sessions_of(manager)
    assert here.post(f"{ACCOUNT}sessions/{foreign.handle}/end/").status_code == 404
    assert here.post(f"{ACCOUNT}sessions/{other.handle}/end/").status_code == 302
    assert there.get("/admin/").status_code == 302
    assert here.get("/admin/").status_code == others.get("/admin/").status_code == 200
    entry = AuditEntry.objects.get(action="session.ended")
    assert (entry.actor_label, entry.object_label, entry.detail) == (admin.username, admin.username, {"sessions": 1})


def test_a_member_ends_all_sessions_but_this_one(browser: BrowserOf, admin: Member) -> None:
    here, others = browser(admin), [browser(admin) for _ in range(3)]
    assert "3 other sessions have ended." in text_of(here.post(f"{ACCOUNT}sessions/end-others/", follow=True))
    assert [client.get("/admin/").status_code for client in others] == [302] * 3
    assert here.get("/admin/").status_code == 200


def test_an_admin_ends_the_sessions_of_a_member_without_a_fresh_proof(
    browser: BrowserOf, admin: Member, manager: Member
) -> None:
    theirs, client = browser(manager), browser(admin)
    with time_machine.travel(clock.now() + timedelta(minutes=10)):
        response = client.post(f"{MEMBERS}{manager.pk}/end_sessions/", SENT)
    assert response.headers["HX-Refresh"] == "true"
    assert theirs.get("/admin/").status_code == 302
    with pytest.raises(Forbidden):
        sessions.end_sessions(actor=actor_of(manager), member_id=admin.pk)


def test_changing_ones_password_ends_the_other_sessions(browser: BrowserOf, admin: Member) -> None:
    here, there = browser(admin), browser(admin)
    given = {
        "old_password": PASSWORD,
        "new_password1": "another long password",
        "new_password2": "another long password",
    }
    assert here.post("/admin/password_change/", given).status_code == 302
    assert here.get("/admin/").status_code == 200
    assert there.get("/admin/").status_code == 302
    assert MemberSession.objects.filter(member=admin).count() == 1
    assert AuditEntry.objects.get(action="member.password_changed").detail == {"sessions_ended": 1}


def test_taken_out_the_rows_of_the_sessions_are_gone_too(browser: BrowserOf, admin: Member, manager: Member) -> None:
    browser(manager)
    browser(manager)
    ended = members.take_out(actor=actor_of(admin), member_id=manager.pk)
    assert ended.sessions == 2
    assert not MemberSession.objects.filter(member=manager).exists()


# --- a fresh proof before what is grave -------------------------------------------------------------------------------


GRAVE = ["change_role", "set_password", "let_in", "take_out", "new_link", "reset_factors"]
HURRIED = ["keys/gatewaykey/{key}/revoke/", "keys/gatewaykey/{key}/disable/", "keys/gatewaykey/{key}/rotate/"]
HURRIED += ["access/accesskey/{access_key}/revoke/", "access/member/{member}/withdraw/"]


@pytest.fixture
def stale(browser: BrowserOf, admin: Member) -> Any:
    """A browser in which an Admin has proven ten minutes ago who they are."""
    client = browser(admin)
    with time_machine.travel(clock.now() + timedelta(minutes=10)):
        yield client


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("verb", GRAVE)
def test_members_are_changed_only_after_a_fresh_proof(stale: Client, manager: Member, method: str, verb: str) -> None:
    before = list(Member.objects.order_by("pk").values())
    address = f"{MEMBERS}{manager.pk}/{verb}/"
    here = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{MEMBERS}?q=max"}
    response = getattr(stale, method)(address, SENT, headers=here)
    assert response.headers["HX-Redirect"] == "/admin/confirm/?next=%2Fadmin%2Faccess%2Fmember%2F%3Fq%3Dmax"
    assert list(Member.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(
    "address",
    [f"{MEMBERS}add/", "/admin/access/accesskey/add/", f"{ACCOUNT}authenticator/", f"{ACCOUNT}passkeys/add/"],
)
def test_what_gives_a_way_in_asks_for_a_fresh_proof_before_anything_is_typed(stale: Client, address: str) -> None:
    response = stale.get(address)
    assert (response.status_code, response.headers["Location"]) == (302, f"/admin/confirm/?next={_quoted(address)}")
    assert stale.post(address, SENT).status_code == 302
    response = stale.post("/admin/confirm/", {"password": PASSWORD, "next": address})
    assert response.headers["Location"] == address
    assert stale.get(address).status_code == 200
    assert AuditEntry.objects.get(action="session.confirmed").detail == {"method": "password"}


@pytest.mark.parametrize("address", HURRIED)
def test_what_stops_something_never_asks(stale: Client, manager: Member, address: str) -> None:
    ids = {"key": make_key().key.pk, "access_key": make_access_key(manager).access_key.pk, "member": manager.pk}
    assert stale.post("/admin/" + address.format(**ids), confirmed()).status_code == 200


def test_the_api_asks_a_session_for_a_fresh_proof_before_an_access_key_is_made(stale: Client) -> None:
    response = stale.post("/api/v1/access-keys/", {"name": "ci"}, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (403, "confirmation_needed")
    assert stale.get("/api/v1/access-keys/").status_code == 200


def test_an_access_key_proves_nothing_again(admin_api: Any) -> None:
    assert admin_api.post("/api/v1/access-keys/", {"name": "ci"}).status_code == 201


def test_a_wrong_proof_is_recorded_and_counted(stale: Client, admin: Member) -> None:
    statuses = [stale.post("/admin/confirm/", {"password": "wrong"}).status_code for _ in range(10)]
    assert statuses == [200] * 9 + [429]
    failed = AuditEntry.objects.filter(action="session.confirmation_failed")
    assert {(entry.actor_kind, entry.actor_label) for entry in failed} == {("member", admin.username)}
    assert len(failed) == 10
    assert stale.get(f"{MEMBERS}add/").status_code == 302


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)", "x"])
def test_a_proof_never_leads_to_another_site(stale: Client, elsewhere: str) -> None:
    response = stale.post("/admin/confirm/", {"password": PASSWORD, "next": elsewhere})
    assert response.headers["Location"] == "/admin/"


def test_whoever_may_not_is_told_that_and_not_asked(browser: BrowserOf, manager: Member) -> None:
    client = browser(manager)
    with time_machine.travel(clock.now() + timedelta(minutes=10)):
        assert client.get(f"{MEMBERS}add/").status_code == 403
        assert client.get(f"{MEMBERS}{manager.pk}/change_role/").status_code == 404


# --- passwords --------------------------------------------------------------------------------------------------------


def test_the_rules_stand_at_the_field(browser: BrowserOf, admin: Member) -> None:
    page = text_of(browser(admin).get("/admin/password_change/"))
    assert "at least 12 characters" in page
    assert re.search(r"commonly used password", page)


def test_a_password_of_any_signs_and_of_64_and_more_characters_is_accepted(admin: Member) -> None:
    for password in ("correct horse battery", "ю" * 6 + " " * 3 + "漢字仮名交", "long " * 40):
        members.set_password(actor=actor_of(admin), member_id=admin.pk, password=password)
        admin.refresh_from_db()
        assert admin.check_password(password)


def _quoted(address: str) -> str:
    return address.replace("/", "%2F")

"""Second factors: added, asked for, used once, removed, reset; and who may not do without."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command
from django.test import Client

from access import second_factors
from access.models import Member, MemberSession
from access.refusals import Conflict, Forbidden
from access.second_factors import PERIOD
from audit import clock
from audit.models import AuditEntry
from tests.access.signing_in import LOGIN, SECOND, code_of, give_recovery_codes, give_totp, sealed_of, type_password
from tests.factories import PASSWORD, actor_of
from tests.fixtures import ApiOf, BrowserOf
from tests.pages import SENT, text_of

pytestmark = pytest.mark.django_db
ACCOUNT = "/admin/account/"
# Throttles count in windows of the clock: in the middle of one of each length.
MIDWAY = datetime(2026, 11, 25, 10, 30, 30, tzinfo=UTC)
LATER = timedelta(seconds=2 * PERIOD)


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def last_sign_in() -> str:
    return AuditEntry.objects.filter(action="session.signed_in").latest("id").credential


# --- the authenticator app --------------------------------------------------------------------------------------------


def test_a_password_alone_does_not_let_in_who_has_a_second_factor(admin: Member, client: Client) -> None:
    secret = give_totp(admin)
    response = type_password(client, admin, next_url="/admin/keys/gatewaykey/")
    assert response.headers["Location"] == SECOND
    assert client.get("/admin/").status_code == 302
    assert "session.signed_in" not in actions()
    with time_machine.travel(clock.now() + LATER):
        response = client.post(SECOND, {"code": code_of(secret)})
    assert response.headers["Location"] == "/admin/keys/gatewaykey/"
    assert client.get("/admin/").status_code == 200
    assert last_sign_in() == "password + totp"


def test_a_code_is_accepted_once(admin: Member) -> None:
    secret = give_totp(admin)
    with time_machine.travel(clock.now() + LATER, tick=False):
        code = code_of(secret)
        for expected in (302, 200):
            client = Client()
            type_password(client, admin)
            response = client.post(SECOND, {"code": code})
            assert response.status_code == expected
        assert "This code is wrong, or was used before." in text_of(response)


def test_the_code_that_added_the_app_signs_nobody_in(admin: Member, client: Client) -> None:
    with time_machine.travel(clock.now(), tick=False):
        secret = give_totp(admin)
        type_password(client, admin)
        assert client.post(SECOND, {"code": code_of(secret)}).status_code == 200


@pytest.mark.parametrize(("ahead", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_phone_may_be_a_period_early_or_late(admin: Member, ahead: int, accepted: bool) -> None:
    secret = give_totp(admin)
    with time_machine.travel(clock.now() + 4 * LATER, tick=False):
        used = second_factors.use_code(actor=actor_of(admin), member=admin, code=code_of(secret, ahead=ahead))
    assert (used == "totp") is accepted


@pytest.mark.parametrize("typed", ["", "000 000", "x" * 100, "\x00", "١٢٣٤٥٦", "12345"])
def test_anything_else_is_no_code(admin: Member, typed: str) -> None:
    give_totp(admin)
    give_recovery_codes(admin)
    assert second_factors.use_code(actor=actor_of(admin), member=admin, code=typed) is None


def test_a_member_adds_an_authenticator_app_on_the_page(browser: BrowserOf, manager: Member) -> None:
    client = browser(manager)
    page = client.get(f"{ACCOUNT}authenticator/")
    assert "no-store" in page.headers["Cache-Control"]
    sealed, secret = sealed_of(page)
    assert secret not in sealed
    wrong = client.post(f"{ACCOUNT}authenticator/", {"sealed": sealed, "code": "000000"})
    assert "This is not the code that the app should show now." in text_of(wrong)
    assert sealed_of(wrong) == (sealed, secret)
    client.post(f"{ACCOUNT}authenticator/", {"sealed": sealed, "code": code_of(secret)})
    assert [factor.name for factor in second_factors.factors_of(manager)] == ["authenticator app"]
    said = AuditEntry.objects.get(action="member.second_factor_added")
    assert (said.actor_label, said.object_label, said.detail["kind"]) == (manager.username, manager.username, "totp")
    again = client.post(f"{ACCOUNT}authenticator/", {"sealed": sealed, "code": code_of(secret)}, follow=True)
    assert "There is an authenticator app already." in text_of(again)


def test_a_secret_that_is_not_ours_or_old_is_not_taken(browser: BrowserOf, manager: Member) -> None:
    client = browser(manager)
    sealed, secret = sealed_of(client.get(f"{ACCOUNT}authenticator/"))
    address = f"{ACCOUNT}authenticator/"
    assert client.post(address, {"sealed": "made up", "code": code_of(secret)}).status_code == 302
    with time_machine.travel(clock.now() + timedelta(minutes=16)):
        second_factors_before = second_factors.factors_of(manager)
        client.post(address, {"sealed": sealed, "code": code_of(secret)})
    assert second_factors.factors_of(manager) == second_factors_before == []


def test_the_secret_is_not_readable_in_the_database(admin: Member) -> None:
    secret = give_totp(admin)
    codes = give_recovery_codes(admin)
    kept = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in kept
    assert not any(code in kept or code.replace("-", "") in kept for code in codes)


def test_another_secret_key_lets_nobody_in_and_breaks_nothing(admin: Member, client: Client, settings: Any) -> None:
    secret = give_totp(admin)
    settings.SECRET_KEY, old = "another key " * 10, settings.SECRET_KEY
    type_password(client, admin)
    with time_machine.travel(clock.now() + LATER):
        assert client.post(SECOND, {"code": code_of(secret)}).status_code == 200
        settings.SECRET_KEY_FALLBACKS = [old]
        assert client.post(SECOND, {"code": code_of(secret)}).status_code == 302


# --- recovery codes ---------------------------------------------------------------------------------------------------


def test_a_recovery_code_stands_in_once(admin: Member) -> None:
    give_totp(admin)
    code = give_recovery_codes(admin)[3]
    for typed, expected in ((code.upper(), 302), (code, 200)):
        client = Client()
        type_password(client, admin)
        assert client.post(SECOND, {"code": typed}).status_code == expected
    assert last_sign_in() == "password + recovery code"
    assert second_factors.recovery_codes_left(admin) == 9
    used = AuditEntry.objects.get(action="member.recovery_code_used")
    assert used.detail == {"codes_left": 9}
    assert code not in str(list(AuditEntry.objects.values()))


def test_new_recovery_codes_void_the_old_ones_and_are_shown_once(browser: BrowserOf, admin: Member) -> None:
    give_totp(admin)
    old = give_recovery_codes(admin)
    response = browser(admin).post(f"{ACCOUNT}recovery-codes/")
    assert "no-store" in response.headers["Cache-Control"]
    assert second_factors.recovery_codes_left(admin) == 10
    assert second_factors.use_code(actor=actor_of(admin), member=admin, code=old[0]) is None
    assert actions().count("member.recovery_codes_made") == 2


def test_recovery_codes_stand_in_for_something(browser: BrowserOf, admin: Member) -> None:
    response = browser(admin).post(f"{ACCOUNT}recovery-codes/", follow=True)
    assert "Add an authenticator app or a passkey first." in text_of(response)


# --- removing, resetting ----------------------------------------------------------------------------------------------


def test_a_member_removes_their_own_factor_and_nobody_elses(browser: BrowserOf, admin: Member, manager: Member) -> None:
    give_totp(admin)
    give_totp(manager)
    give_recovery_codes(manager)
    (theirs,), (other,) = second_factors.factors_of(manager), second_factors.factors_of(admin)
    client = browser(manager)
    assert client.post(f"{ACCOUNT}factors/{other.id}/remove/").status_code == 404
    assert client.post(f"{ACCOUNT}factors/{theirs.id}/remove/").status_code == 302
    assert list(Authenticator.objects.values_list("user", flat=True)) == [admin.pk]
    assert actions()[-1] == "member.second_factor_removed"
    with pytest.raises(Forbidden):
        second_factors.remove_factor(actor=actor_of(manager), member_id=admin.pk, factor_id=other.id)


def test_the_last_factor_stays_where_the_role_needs_one(browser: BrowserOf, admin: Member, settings: Any) -> None:
    settings.KEEPTRUSTS_REQUIRE_MFA = frozenset({"admin"})
    give_totp(admin)
    (factor,) = second_factors.factors_of(admin)
    with pytest.raises(Conflict, match="Add another one before"):
        second_factors.remove_factor(actor=actor_of(admin), member_id=admin.pk, factor_id=factor.id)
    assert second_factors.has_second_factor(admin)


def test_an_admin_resets_the_factors_of_who_has_lost_them(browser: BrowserOf, admin: Member, manager: Member) -> None:
    give_totp(manager)
    give_recovery_codes(manager)
    theirs = browser(manager)
    response = browser(admin).post(f"/admin/access/member/{manager.pk}/reset_factors/", SENT)
    assert response.headers["HX-Refresh"] == "true"
    assert not Authenticator.objects.filter(user=manager).exists()
    assert theirs.get("/admin/").status_code == 302
    entry = AuditEntry.objects.get(action="member.second_factors_reset")
    assert (entry.before, entry.detail) == ({"second_factors": ["authenticator app"]}, {"sessions_ended": 1})


def test_only_admins_reset(manager: Member, auditor: Member) -> None:
    give_totp(auditor)
    with pytest.raises(Forbidden):
        second_factors.reset_second_factors(actor=actor_of(manager), member_id=auditor.pk)


def test_reset_mfa_helps_the_last_admin(admin: Member) -> None:
    give_totp(admin)
    call_command("reset_mfa", admin.username, stderr=io.StringIO())
    assert not second_factors.has_second_factor(admin)
    assert AuditEntry.objects.get(action="member.second_factors_reset").actor_label == "reset_mfa command"
    for name, words in ((admin.username, "has no second factor"), ("nobody", "No member is called")):
        with pytest.raises(CommandError, match=words):
            call_command("reset_mfa", name)


# --- guessing ---------------------------------------------------------------------------------------------------------


def test_ten_wrong_codes_lock_the_sign_in_and_each_is_recorded(admin: Member, client: Client) -> None:
    secret = give_totp(admin)
    type_password(client, admin)
    for _ in range(9):
        assert client.post(SECOND, {"code": "000000"}).status_code == 200
    response = client.post(SECOND, {"code": "000000"})
    assert response.status_code == 429
    assert "Sign-in is locked for now" in text_of(response)
    with time_machine.travel(clock.now() + LATER):
        assert client.post(SECOND, {"code": code_of(secret)}).status_code == 429
        assert type_password(client, admin).status_code == 429
    failed = AuditEntry.objects.filter(action="session.sign_in_failed")
    assert {entry.detail["method"] for entry in failed[:10]} == {"second factor"}
    assert {entry.object_label for entry in failed} == {admin.username}


@time_machine.travel(MIDWAY, tick=False)
def test_codes_are_not_guessed_from_many_addresses_either(admin: Member) -> None:
    give_totp(admin)
    statuses = []
    for number in range(40):
        client = Client(REMOTE_ADDR=f"192.0.2.{number}")
        type_password(client, admin)
        statuses.append(client.post(SECOND, {"code": "000000"}).status_code)
    assert statuses == [200] * 30 + [429] * 10


@time_machine.travel(MIDWAY, tick=False)
def test_names_are_not_sprayed_from_one_address(db: None) -> None:
    client = Client()
    answers = [client.post(LOGIN, {"username": f"name-{number}", "password": "x"}).status_code for number in range(65)]
    assert answers == [200] * 60 + [429] * 5
    assert Client(REMOTE_ADDR="192.0.2.9").post(LOGIN, {"username": "x", "password": "x"}).status_code == 200


def test_a_password_waits_five_minutes_for_its_second_factor(admin: Member, client: Client) -> None:
    secret = give_totp(admin)
    type_password(client, admin)
    with time_machine.travel(clock.now() + timedelta(minutes=5, seconds=1)):
        response = client.post(SECOND, {"code": code_of(secret)}, follow=True)
    assert "That took too long" in text_of(response)
    assert client.get("/admin/").status_code == 302


def test_a_password_that_was_changed_meanwhile_waits_for_nothing(admin: Member, client: Client) -> None:
    secret = give_totp(admin)
    type_password(client, admin)
    admin.set_password("another password of theirs")
    admin.save()
    with time_machine.travel(clock.now() + LATER):
        assert client.post(SECOND, {"code": code_of(secret)}).headers["Location"] == LOGIN


# --- passkeys, as far as they need no authenticator (tests/browser/test_sign_in.py has one) ---------------------------


NO_ANSWERS = ["", "{}", "[]", "null", "1", '{"id": 1}', '{"response": null}', '{"response": {"userHandle": "!"}}']
NO_ANSWERS += ['{"response": {"userHandle": "////"}, "id": "AA", "rawId": "AA", "type": "public-key"}', "[" * 5000]


@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_what_is_no_answer_of_a_passkey_is_refused(client: Client, admin: Member, answer: str) -> None:
    assert client.get("/admin/passkey-options/").json()["publicKey"]["challenge"]
    response = client.post("/admin/login/passkey/", {"answer": answer}, follow=True)
    assert "The passkey was not accepted." in text_of(response)
    assert actions()[-1] == "session.sign_in_failed"


@pytest.mark.parametrize("answer", NO_ANSWERS[1:])
def test_what_is_no_new_passkey_is_refused(browser: BrowserOf, admin: Member, answer: str) -> None:
    client = browser(admin)
    client.get("/admin/passkey-options/?for=add", headers={"host": "localhost"})
    response = client.post(f"{ACCOUNT}passkeys/add/", {"name": "x", "answer": answer}, headers={"host": "localhost"})
    assert response.status_code == 200
    assert "The passkey was not added" in text_of(response)
    assert not second_factors.has_second_factor(admin)


def test_an_address_has_no_passkeys_and_says_why(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    assert "You have opened the console by an address" in text_of(
        client.get(f"{ACCOUNT}passkeys/add/", headers={"host": "127.0.0.1:8000"})
    )
    assert "by an address" not in text_of(client.get(f"{ACCOUNT}passkeys/add/", headers={"host": "localhost:8000"}))


def test_strangers_make_no_passkeys(client: Client, db: None) -> None:
    assert client.get("/admin/passkey-options/?for=add").status_code == 404


# --- who may not do without -------------------------------------------------------------------------------------------


@pytest.fixture
def required(settings: Any) -> None:
    settings.KEEPTRUSTS_REQUIRE_MFA = frozenset({"admin"})


def test_an_admin_without_a_factor_is_led_to_add_one_and_gets_nothing_else(
    required: None, browser: BrowserOf, admin: Member
) -> None:
    client = browser(admin)
    for path in ("/admin/", "/admin/keys/gatewaykey/", "/admin/password_change/", "/admin/search/?s=keys"):
        response = client.get(path)
        assert (response.status_code, response.headers["Location"]) == (302, ACCOUNT)
    assert client.post("/admin/access/accesskey/add/", {"name": "x"}).headers["Location"] == ACCOUNT
    page = client.get(ACCOUNT)
    assert "Your role needs a second factor." in text_of(page)
    sealed, secret = sealed_of(client.get(f"{ACCOUNT}authenticator/"))
    client.post(f"{ACCOUNT}authenticator/", {"sealed": sealed, "code": code_of(secret)})
    assert client.get("/admin/").status_code == 200


def test_the_api_is_closed_to_such_a_session_and_open_to_access_keys(
    required: None, browser: BrowserOf, api: ApiOf, admin: Member
) -> None:
    response = browser(admin).get("/api/v1/gateway-keys/")
    assert (response.status_code, response.json()["code"]) == (403, "second_factor_needed")
    assert api(admin).get("/api/v1/gateway-keys/").status_code == 200


def test_other_roles_need_none(required: None, browser: BrowserOf, manager: Member) -> None:
    assert browser(manager).get("/admin/").status_code == 200


def test_an_older_session_shows_the_factor_that_was_added_elsewhere(
    required: None, browser: BrowserOf, admin: Member
) -> None:
    client = browser(admin)
    secret = give_totp(admin)
    assert client.get("/admin/keys/gatewaykey/").headers["Location"].startswith("/admin/confirm/?next=")
    assert client.post("/admin/confirm/", {"password": PASSWORD}).status_code == 200
    assert client.get("/admin/").status_code == 302
    with time_machine.travel(clock.now() + LATER):
        client.post("/admin/confirm/", {"code": code_of(secret)})
    assert client.get("/admin/").status_code == 200


def test_a_manager_who_becomes_an_admin_needs_one_from_the_next_request_on(
    required: None, browser: BrowserOf, admin: Member, manager: Member
) -> None:
    client = browser(manager)
    key = client.session.session_key
    assert client.get("/admin/").status_code == 200
    Member.objects.filter(pk=manager.pk).update(role="admin")
    assert client.get("/admin/").headers["Location"] == ACCOUNT
    assert not MemberSession.objects.filter(session_key=key).exists()
    assert MemberSession.objects.filter(member=manager).count() == 1


def test_signing_in_with_the_factor_is_enough(required: None, admin: Member, client: Client) -> None:
    secret = give_totp(admin)
    type_password(client, admin)
    with time_machine.travel(clock.now() + LATER):
        client.post(SECOND, {"code": code_of(secret)})
    assert client.get("/admin/").status_code == 200

"""The dialogs of the console that change a key's state, and what is done with several keys at once."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from access.models import Member
from access.once import begin_once
from access.tokens import digest
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from keys import bulk, lifecycle
from keys.models import GatewayKey
from keys.status import KeyStatus
from tests.factories import TESTS, make_group, make_key, make_member
from tests.keys.conftest import KEYS, Console, dialog_of, page_of, text_of

SENT = {"_form_submitted": "True"}
BULK = "/admin/hygiene/{}/"


def rotation(**given: Any) -> dict[str, Any]:
    return {**SENT, "form_token": uuid4(), "grace": "3600", "renew_expiry": "on", **given}


def buttons(client: Client, key: GatewayKey) -> list[str]:
    """Return the actions that the page of a key offers."""
    page = client.get(page_of(key)).content.decode()
    return re.findall(rf'hx-get="/admin/keys/gatewaykey/{key.pk}/([a-z_]+)/"(?! hx-trigger)', page)


def selected(action: str, *keys: GatewayKey, **given: Any) -> dict[str, Any]:
    return {"action": action, "_selected_action": [str(key.pk) for key in keys], **given}


# --- dialogs ----------------------------------------------------------------------------------------------------------


def test_rotate_shows_the_new_value_in_the_dialog(console: Console, admin: Member) -> None:
    key = make_key().key
    response = console(admin).post(dialog_of(key, "rotate"), rotation())
    shown = re.search(r'id="secret-value"[^>]*>([^<]*)<', response.content.decode())
    assert shown
    old, new = key.versions.order_by("number")
    assert bytes(new.digest) == digest(shown[1])
    assert old.valid_until is not None
    assert timedelta(minutes=59) < old.valid_until - clock.now() <= timedelta(hours=1)
    assert "no-store" in response["Cache-Control"]
    assert response["HX-Retarget"] == "#dialog"
    assert not response.cookies


def test_rotate_offers_what_the_policy_allows(console: Console, admin: Member) -> None:
    key = make_key(consumer_group=make_group(max_grace_seconds=7200)).key
    client = console(admin)
    page = client.get(dialog_of(key, "rotate")).content.decode()
    assert re.findall(r'<option value="([^"]*)"', page) == ["0", "3600", "7200", "custom"]
    refused = client.post(dialog_of(key, "rotate"), rotation(grace="custom", custom_minutes="121"))
    assert "At most 120 minutes" in refused.content.decode()
    assert "valid choice" in client.post(dialog_of(key, "rotate"), rotation(grace="86400")).content.decode()
    assert key.versions.count() == 1
    assert (
        "secret-value"
        in client.post(dialog_of(key, "rotate"), rotation(grace="custom", custom_minutes="7")).content.decode()
    )


def test_rotate_renews_the_expiry_only_where_it_is_ticked(console: Console, admin: Member) -> None:
    expires_at = clock.now() + timedelta(days=9)
    key = make_key(expires_at=expires_at).key
    client = console(admin)
    kept = rotation()
    del kept["renew_expiry"]
    client.post(dialog_of(key, "rotate"), kept)
    key.refresh_from_db()
    assert key.expires_at == expires_at
    client.post(dialog_of(key, "rotate"), rotation())
    key.refresh_from_db()
    assert key.expires_at is not None
    assert key.expires_at > expires_at


def test_a_rotation_sent_twice_makes_one_version(console: Console, admin: Member) -> None:
    key = make_key().key
    client, sent = console(admin), rotation()
    client.post(dialog_of(key, "rotate"), sent)
    again = client.post(dialog_of(key, "rotate"), sent)
    assert "carried out already" in again.content.decode()
    assert "secret-value" not in again.content.decode()
    assert key.versions.count() == 2


def test_revoke_keeps_its_reason(console: Console, admin: Member) -> None:
    key = make_key().key
    response = console(admin).post(dialog_of(key, "revoke"), {**SENT, "reason": "Leaked in a build log"})
    assert response["HX-Refresh"] == "true"
    key.refresh_from_db()
    assert (key.status, key.revoke_reason, key.revoked_by) == (KeyStatus.REVOKED, "Leaked in a build log", admin)


def test_a_reason_that_the_verb_refuses_is_said_in_the_dialog(console: Console, admin: Member) -> None:
    issued = make_key()
    response = console(admin).post(dialog_of(issued.key, "revoke"), {**SENT, "reason": issued.value})
    assert "looks like a secret value" in response.content.decode()
    assert issued.key.status is KeyStatus.ACTIVE


def test_disable_enable_and_end_grace(console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    client = console(admin)
    for verb, status in (("end_grace", "active"), ("disable", "disabled"), ("enable", "active")):
        assert client.post(dialog_of(key, verb), SENT)["HX-Refresh"] == "true"
        key.refresh_from_db()
        assert key.status == status


def test_opening_a_dialog_changes_nothing(console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    before = GatewayKey.objects.values().get()
    for verb in ("rotate", "extend_grace", "end_grace", "disable", "revoke"):
        page = console(admin).get(dialog_of(key, verb))
        assert page.status_code == 200
        assert 'type="submit"' in page.content.decode()
    assert GatewayKey.objects.values().get() == before


@pytest.mark.parametrize(
    ("verb", "is_red"), [("rotate", False), ("end_grace", True), ("disable", True), ("revoke", True)]
)
def test_buttons_that_destroy_look_it(verb: str, is_red: bool, console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.rotate(actor=TESTS, key_id=key.pk, grace=timedelta(hours=1))
    page = console(admin).get(dialog_of(key, verb)).content.decode()
    submit = re.search(r'<button[^>]*type="submit".*?>', page, re.DOTALL)
    assert submit
    assert ("bg-red-600" in submit[0]) is is_red


@pytest.mark.parametrize("verb", ["rotate", "end_grace", "disable", "enable"])
def test_a_dialog_says_what_the_state_does_not_allow(verb: str, console: Console, admin: Member) -> None:
    key = make_key().key
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    client = console(admin)
    opened = client.get(dialog_of(key, verb)).content.decode()
    assert "This key is revoked" in opened
    assert 'type="submit"' not in opened
    sent = client.post(dialog_of(key, verb), rotation())
    assert "This key is revoked" in sent.content.decode()
    refused = AuditEntry.objects.get(action=f"gateway_key.{verb}_refused")
    assert refused.detail == {"code": "key_revoked"}


@pytest.mark.parametrize("verb", ["rotate", "end_grace", "disable", "enable", "revoke"])
def test_an_auditor_is_refused_and_the_attempt_is_recorded(verb: str, console: Console, auditor: Member) -> None:
    key = make_key().key
    assert console(auditor).post(dialog_of(key, verb), rotation()).status_code == 403
    refused = AuditEntry.objects.get(action=f"gateway_key.{verb}_refused")
    assert (refused.actor_label, refused.object_id) == (auditor.username, str(key.pk))
    assert key.status is KeyStatus.ACTIVE
    assert key.versions.count() == 1


@pytest.mark.parametrize("verb", ["rotate", "end_grace", "disable", "enable", "revoke"])
def test_a_key_that_a_manager_does_not_see_does_not_exist(verb: str, console: Console, manager: Member) -> None:
    hidden = make_key(consumer_group=make_group(managers=[make_member("manager")])).key
    client = console(manager)
    assert client.get(dialog_of(hidden, verb)).status_code == 404
    assert client.post(dialog_of(hidden, verb), rotation()).status_code == 404


def test_a_dialog_refuses_a_post_without_its_csrf_token(admin: Member) -> None:
    key = make_key().key
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(dialog_of(key, "revoke"), SENT).status_code == 403
    assert key.status is KeyStatus.ACTIVE


def test_the_page_of_a_key_offers_what_role_and_state_allow(
    console: Console, admin: Member, manager: Member, auditor: Member
) -> None:
    make_group(managers=[make_member("manager")])
    key = make_key().key
    assert buttons(console(admin), key) == ["rotate", "disable", "revoke"]
    assert buttons(console(manager), key) == []
    assert buttons(console(auditor), key) == []
    lifecycle.disable(actor=TESTS, key_id=key.pk)
    assert buttons(console(admin), key) == ["enable", "revoke"]


# --- several at once --------------------------------------------------------------------------------------------------


def shown(page: Any, step: str = "apply", **given: Any) -> dict[str, Any]:
    """Return what the form of a preview sends."""
    hidden = {name: page.context[name] for name in ("ids", "shown", "back", "form_token")}
    return {**hidden, "skipped": page.context["skipped_ids"], "step": step, **given}


def results(page: Any) -> dict[str, str]:
    """Return, by the name of each key, why nothing was done; "" where it was."""
    return {str(row.key or row.key_id): row.why for row in page.context["rows"]}


def confirm(client: Client, slug: str, given: dict[str, Any]) -> Any:
    """Send a form that was confirmed; return the page of results that it leads to."""
    return client.post(BULK.format(slug), {"form_token": uuid4(), **given}, follow=True)


def test_bulk_revoke_asks_first_and_says_what_will_be_hit(console: Console, manager: Member) -> None:
    make_group(managers=[make_member("manager")])
    theirs = make_key("theirs", consumer_group=make_group()).key
    unscoped, revoked = make_key("unscoped").key, make_key("over", consumer_group=theirs.consumer_group).key
    lifecycle.revoke(actor=TESTS, key_id=revoked.pk)
    page = console(manager).post(KEYS, selected("revoke_selected", theirs, unscoped, revoked))
    text = page.content.decode()
    assert [plan.key.name for plan in page.context["doable"]] == ["theirs"]
    assert {plan.key.name: plan.why_not for plan in page.context["skipped"]} == {
        "unscoped": "You do not manage every group.",
        "over": "This key is revoked already.",
    }
    assert "Never" in text
    assert "kt-fix-red" in text
    assert theirs.status is KeyStatus.ACTIVE


def test_bulk_revoke_revokes_what_was_confirmed(console: Console, admin: Member) -> None:
    first, second, third = (make_key().key for _ in range(3))
    client = console(admin)
    page = client.post(f"{KEYS}?status=active", selected("revoke_selected", first, second))
    answer = confirm(client, "revoke", shown(page, reason="Team dissolved"))
    assert "2 keys done" in text_of(answer)
    assert f'href="{KEYS}?status=active"' in answer.content.decode()
    for key in (first, second, third):
        key.refresh_from_db()
    assert [key.revoke_reason for key in (first, second, third)] == ["Team dissolved", "Team dissolved", ""]
    assert third.status is KeyStatus.ACTIVE


def test_bulk_revoke_of_what_is_not_theirs_is_refused_and_recorded(console: Console, manager: Member) -> None:
    make_group(managers=[make_member("manager")])
    unscoped = make_key("unscoped").key
    answer = confirm(console(manager), "revoke", {"step": "apply", "ids": str(unscoped.pk)})
    assert results(answer) == {"unscoped": "Your role does not allow this."}
    assert AuditEntry.objects.get(action=AuditAction.KEY_REVOKE_REFUSED).object_id == str(unscoped.pk)


def test_a_key_that_the_member_does_not_see_is_no_key_in_bulk_either(console: Console, manager: Member) -> None:
    hidden = make_key(consumer_group=make_group(managers=[make_member("manager")])).key
    answer = confirm(console(manager), "disable", {"step": "apply", "ids": str(hidden.pk)})
    assert results(answer) == {str(hidden.pk): "There is no such key."}
    assert hidden.status is KeyStatus.ACTIVE


@pytest.mark.parametrize("slug", ["set_expiry", "owner", "scope", "end_grace", "disable", "revoke"])
def test_an_auditor_has_no_bulk_fix(slug: str, console: Console, auditor: Member) -> None:
    key = make_key().key
    client = console(auditor)
    assert f"{slug}_selected" not in client.get(KEYS).content.decode()
    client.post(KEYS, selected(f"{slug}_selected", key))
    page = BULK.format(slug.replace("_", "-"))
    assert client.post(page, {"step": "apply", "ids": str(key.pk), "days": 9}).status_code == 403
    before = key.expires_at
    key.refresh_from_db()
    assert (key.status, key.expires_at) == (KeyStatus.ACTIVE, before)


def test_a_bulk_fix_refuses_more_than_a_thousand(
    console: Console, admin: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_ONCE", 2)
    keys = [make_key().key for _ in range(3)]
    answer = console(admin).post(KEYS, selected("revoke_selected", *keys), follow=True)
    assert "At most 2 keys" in answer.content.decode()


def test_bulk_set_expiry_is_capped_by_the_policy_of_each_group(console: Console, admin: Member) -> None:
    strict = make_key("strict", consumer_group=make_group(max_lifetime_days=30)).key
    free = make_key("free", expires_at=None).key
    client = console(admin)
    page = client.post(KEYS, selected("set_expiry_selected", strict, free))
    then = {plan.key.name: plan.after for plan in page.context["doable"]}
    assert "the most that" in then["strict"]
    assert "the most that" not in then["free"]
    answer = confirm(client, "set-expiry", shown(page, days="90"))
    assert results(answer) == {"free": "", "strict": ""}
    for key, days in ((strict, 30), (free, 90)):
        key.refresh_from_db()
        assert key.expires_at is not None
        assert timedelta(days=days - 1) < key.expires_at - clock.now() <= timedelta(days=days)


def test_other_particulars_than_those_seen_are_shown_before_they_are_carried_out(
    console: Console, admin: Member
) -> None:
    key = make_key(expires_at=None).key
    client = console(admin)
    page = client.post(KEYS, selected("set_expiry_selected", key))
    again = client.post(BULK.format("set-expiry"), shown(page, days="7"))
    assert "You have changed what is to be done" in again.content.decode()
    key.refresh_from_db()
    assert key.expires_at is None
    confirm(client, "set-expiry", shown(again, days="7"))
    key.refresh_from_db()
    assert key.expires_at is not None


@pytest.mark.parametrize("days", ["", "0", "x", "36501", "9" * 30])
def test_a_number_of_days_that_is_none_is_said_at_its_field(days: str, console: Console, admin: Member) -> None:
    key = make_key(expires_at=None).key
    client = console(admin)
    page = client.post(KEYS, selected("set_expiry_selected", key))
    answer = client.post(BULK.format("set-expiry"), shown(page, days=days))
    assert "days" in answer.context["form"].errors
    key.refresh_from_db()
    assert key.expires_at is None


def test_bulk_owner_names_somebody_who_is_there(console: Console, admin: Member, manager: Member) -> None:
    key, theirs = make_key("orphan").key, make_key("theirs", owner=manager).key
    client = console(admin)
    page = client.post(KEYS, selected("owner_selected", key, theirs))
    again = client.post(BULK.format("owner"), shown(page, "preview", owner=manager.pk))
    assert {plan.key.name: plan.why_not for plan in again.context["skipped"]} == {"theirs": "Its owner already."}
    answer = confirm(client, "owner", shown(again, owner=manager.pk))
    assert results(answer) == {"orphan": "", "theirs": "Its owner already."}
    key.refresh_from_db()
    assert key.owner == manager


def test_bulk_scope_leaves_out_what_the_groups_policy_does_not_allow(console: Console, admin: Member) -> None:
    group = make_group(max_lifetime_days=30)
    for_ever = make_key("for-ever", expires_at=None).key
    short = make_key("short", expires_at=clock.now() + timedelta(days=5)).key
    client = console(admin)
    page = client.post(KEYS, selected("scope_selected", for_ever, short))
    assert page.context["doable"] == []
    again = client.post(BULK.format("scope"), shown(page, "preview", group=group.pk))
    answer = confirm(client, "scope", shown(again, group=group.pk))
    told = results(answer)
    assert told["short"] == ""
    assert "requires an expiry" in told["for-ever"]
    for key in (for_ever, short):
        key.refresh_from_db()
    assert (for_ever.consumer_group, short.consumer_group) == (None, group)


def test_bulk_disable_and_end_grace_tell_what_became_of_each_key(console: Console, admin: Member) -> None:
    one, two = make_key("one").key, make_key("two").key
    lifecycle.rotate(actor=TESTS, key_id=one.pk, grace=timedelta(days=3))
    client = console(admin)
    page = client.post(KEYS, selected("end_grace_selected", one, two))
    ended = results(confirm(client, "end-grace", shown(page)))
    assert ended == {"one": "", "two": "No older value of this key is accepted."}
    page = client.post(KEYS, selected("disable_selected", one, two))
    # Meanwhile somebody else has done it to one of them.
    lifecycle.disable(actor=TESTS, key_id=two.pk)
    answer = confirm(client, "disable", shown(page))
    assert results(answer) == {"one": "", "two": "This key is disabled. There is nothing to do."}
    assert "1 key done , 1 refused" in text_of(answer)


def test_a_fix_that_was_confirmed_is_carried_out_once_however_often_it_is_sent(console: Console, admin: Member) -> None:
    one, two = make_key("one").key, make_key("two").key
    client = console(admin)
    sent = shown(client.post(KEYS, selected("disable_selected", one, two)))
    first = client.post(BULK.format("disable"), sent)
    assert first.status_code == 302
    lifecycle.enable(actor=TESTS, key_id=one.pk)
    assert client.post(BULK.format("disable"), sent).headers["Location"] == first.headers["Location"]
    for _ in range(2):
        assert results(client.get(first.headers["Location"])) == {"one": "", "two": ""}
    one.refresh_from_db()
    assert one.status is KeyStatus.ACTIVE
    assert AuditEntry.objects.filter(action=AuditAction.KEY_DISABLED).count() == 2


def test_a_result_is_only_for_who_did_it(console: Console, admin: Member, manager: Member) -> None:
    client = console(admin)
    answer = confirm(client, "disable", shown(client.post(KEYS, selected("disable_selected", make_key().key))))
    result = answer.request["PATH_INFO"]
    assert "no-store" in answer.headers["Cache-Control"]
    assert console(manager).get(result).status_code == 404


def test_a_result_that_is_not_known_yet_is_said_so(console: Console, admin: Member) -> None:
    token = uuid4()
    result = f"/admin/hygiene/result/{token}/"
    with begin_once(member=admin, path=result, token=token):
        assert "not done yet or was interrupted" in text_of(console(admin).get(result))


def test_a_result_of_what_broke_off_is_said_to_have_broken_off(console: Console, admin: Member) -> None:
    token = uuid4()
    result = f"/admin/hygiene/result/{token}/"
    with pytest.raises(ZeroDivisionError), begin_once(member=admin, path=result, token=token):
        raise ZeroDivisionError
    assert "not done yet or was interrupted" in text_of(console(admin).get(result))


def test_many_keys_are_all_named_before_and_told_after(console: Console, admin: Member) -> None:
    keys = [make_key(f"key-{number:03}").key for number in range(120)]
    for key in keys[:60]:
        lifecycle.disable(actor=TESTS, key_id=key.pk)
    client = console(admin)
    page = client.post(KEYS, selected("disable_selected", *keys))
    text = text_of(page)
    assert "and 10 more, which will be changed too" in text
    assert "and 10 more, which will be left too" in text
    assert all(text.count(key.name) == 1 for key in keys)
    answer = confirm(client, "disable", shown(page))
    told = results(answer) | results(client.get(f"{answer.request['PATH_INFO']}?p=2"))
    assert told == {key.name: "This key is disabled already." if key in keys[:60] else "" for key in keys}
    assert "60 keys done , 60 left as they were" in text_of(answer)


def test_a_fix_without_its_token_is_a_bad_request(console: Console, admin: Member) -> None:
    sent = {"step": "apply", "ids": str(make_key().key.pk)}
    assert console(admin).post(BULK.format("disable"), sent).status_code == 400


@pytest.mark.parametrize("given", [{"ids": "no-uuid"}, {"skipped": "1,2"}])
def test_what_is_no_id_is_a_bad_request(given: dict[str, str], console: Console, admin: Member) -> None:
    assert console(admin).post(BULK.format("revoke"), {"step": "apply", **given}).status_code == 400


@pytest.mark.parametrize("address", ["https://elsewhere.example/", "//elsewhere.example/admin/", "javascript:alert(1)"])
def test_the_way_back_leads_nowhere_else(address: str, console: Console, admin: Member) -> None:
    answer = console(admin).post(BULK.format("revoke"), {"back": address})
    assert answer.context["back"] == "/admin/hygiene/"


def test_export_gives_metadata_and_nothing_that_a_spreadsheet_runs(console: Console, auditor: Member) -> None:
    issued = make_key("=cmd|' /C calc'!A0", description="@SUM(1)", consumer_group=make_group("payments"))
    make_key("left out")
    answer = console(auditor).post(KEYS, selected("export_selected", issued.key))
    (row,) = csv.DictReader(StringIO(answer.content.decode()))
    assert row["name"] == "'=cmd|' /C calc'!A0"
    assert row["description"] == "'@SUM(1)"
    assert (row["id"], row["consumer_group"], row["status"], row["version"]) == (
        str(issued.key.pk),
        "payments",
        "active",
        "1",
    )
    assert issued.value not in answer.content.decode()
    assert "attachment" in answer["Content-Disposition"]
    entry = AuditEntry.objects.get(action=AuditAction.KEY_EXPORTED)
    assert (entry.actor_label, entry.detail["rows"]) == (auditor.username, 1)


def test_export_holds_what_the_member_sees_and_no_more(console: Console, manager: Member) -> None:
    hidden = make_key("hidden", consumer_group=make_group(managers=[make_member("manager")])).key
    seen = make_key("seen", consumer_group=make_group()).key
    answer = console(manager).post(KEYS, selected("export_selected", hidden, seen))
    assert [row["name"] for row in csv.DictReader(StringIO(answer.content.decode()))] == ["seen"]


def test_nothing_imports(console: Console, admin: Member) -> None:
    client = console(admin)
    assert client.get(f"{KEYS}import/", follow=True).status_code == 404
    assert client.get(f"{KEYS}process_import/", follow=True).status_code == 404

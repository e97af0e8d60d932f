"""Creating and editing gateway keys in the console."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.test import Client

from access.models import Member
from access.tokens import TokenKind, digest, is_well_formed
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from keys import lifecycle
from keys.models import ConsumerGroup, GatewayKey
from tests.factories import TESTS, make_group, make_key, make_member
from tests.keys.conftest import ADD, KEYS, Console, form, page_of
from tests.pages import save


def create(client: Client, **given: Any) -> Any:
    return client.post(ADD, form(form_token=uuid4(), **given))


def shown_value(response: Any) -> str:
    """Return the value in the box of the page that shows it."""
    found = re.search(r'id="secret-value"[^>]*>([^<]*)<', response.content.decode())
    assert found, "no value is shown"
    return found[1].strip()


def errors(response: Any) -> dict[str, list[str]]:
    return {field: list(messages) for field, messages in response.context["adminform"].form.errors.items()}


def test_the_answer_to_create_shows_the_value_once(console: Console, admin: Member) -> None:
    client = console(admin)
    response = create(client, allowed_networks="10.0.0.0/8\n2001:db8::/32")
    key = GatewayKey.objects.get(name="billing-service")
    value = shown_value(response)
    assert is_well_formed(value, TokenKind.GATEWAY_KEY)
    assert bytes(key.versions.get().digest) == digest(value)
    assert f"Authorization: Bearer {value}" in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert key.allowed_networks == ["10.0.0.0/8", "2001:db8::/32"]
    assert key.created_by == admin
    assert value not in client.get(page_of(key)).content.decode()


def test_nothing_but_the_answer_holds_the_value(console: Console, admin: Member) -> None:
    client = console(admin)
    response = create(client)
    value = shown_value(response)
    assert value not in str(response.headers)
    assert value not in response.cookies.output()
    assert all(value not in str(session.get_decoded()) for session in Session.objects.all())
    for model in apps.get_models():
        assert value not in str(list(model._default_manager.values())), model


@pytest.mark.parametrize("days", [30, 90])
def test_a_preset_expires_after_so_many_days(days: int, console: Console, admin: Member) -> None:
    create(console(admin), expiry=str(days))
    key = GatewayKey.objects.get()
    assert key.expires_at is not None
    assert abs(key.expires_at - key.created_at - timedelta(days=days)) < timedelta(seconds=5)


def test_a_date_expires_at_its_end_in_utc(console: Console, admin: Member) -> None:
    day = (clock.now() + timedelta(days=17)).date()
    create(console(admin), expiry="custom", expires_on=day.isoformat())
    expires_at = GatewayKey.objects.get().expires_at
    assert expires_at is not None
    assert f"{expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" == f"{day} 23:59:59"


def test_never_is_never(console: Console, admin: Member) -> None:
    create(console(admin), expiry="never")
    assert GatewayKey.objects.get().expires_at is None


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"name": " "}, "name", "required"),
        ({"name": "kt_gk_" + "a" * 32}, "name", "looks like a secret"),
        ({"expiry": "never"}, "expiry", "requires an expiry"),
        ({"expiry": "90"}, "expiry", "at most 60 days"),
        ({"expiry": "custom", "expires_on": ""}, "expires_on", "Choose the date"),
        ({"expiry": "custom", "expires_on": "2020-01-01"}, "expires_on", "in the past"),
        ({"expiry": "custom", "expires_on": "2199-01-01"}, "expires_on", "at most 60 days"),
        ({"expiry": "30", "allowed_networks": "10.0.0.1/8"}, "allowed_networks", "host bits"),
        ({"expiry": "30", "description": "x" * 2001}, "description", "2000"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    given: dict[str, str], field: str, message: str, console: Console, admin: Member
) -> None:
    group = make_group(max_lifetime_days=60)
    response = create(console(admin), consumer_group=group.pk, **given)
    assert response.status_code == 200
    assert message in " ".join(errors(response)[field])
    assert not GatewayKey.objects.exists()


def test_the_last_day_that_the_policy_allows_is_allowed(console: Console, admin: Member) -> None:
    group = make_group(max_lifetime_days=60)
    day = (clock.now() + timedelta(days=60)).date()
    response = create(console(admin), consumer_group=group.pk, expiry="custom", expires_on=day.isoformat())
    assert shown_value(response)


def test_the_form_carries_each_groups_policy(console: Console, admin: Member) -> None:
    make_group("payments", max_lifetime_days=60, default_lifetime_days=45)
    page = console(admin).get(ADD).content.decode()
    assert 'data-max-days="60"' in page
    assert 'data-default-days="45"' in page
    assert 'data-expiry-required="yes"' in page


def test_a_form_sent_twice_makes_one_key(console: Console, admin: Member) -> None:
    client = console(admin)
    sent = form(form_token=uuid4())
    value = shown_value(client.post(ADD, sent))
    again = client.post(ADD, sent)
    assert again.status_code == 409
    assert value not in again.content.decode()
    assert page_of(GatewayKey.objects.get()) in again.content.decode()


def test_a_form_that_was_refused_may_be_sent_again(console: Console, admin: Member) -> None:
    client = console(admin)
    sent = form(form_token=uuid4())
    client.post(ADD, {**sent, "name": ""})
    assert shown_value(client.post(ADD, sent))


def test_a_form_without_its_token_makes_nothing(console: Console, admin: Member) -> None:
    response = console(admin).post(ADD, form())
    assert "Load the page again" in response.content.decode()
    assert not GatewayKey.objects.exists()


def test_two_members_may_send_the_same_token(console: Console, admin: Member) -> None:
    sent = form(form_token=uuid4())
    assert shown_value(console(admin).post(ADD, sent))
    assert shown_value(console(make_member("admin")).post(ADD, sent))


def test_an_auditor_may_not_create_and_the_attempt_is_recorded(console: Console, auditor: Member) -> None:
    client = console(auditor)
    assert client.get(ADD).status_code == 403
    assert create(client).status_code == 403
    refused = AuditEntry.objects.get(action=AuditAction.KEY_CREATE_REFUSED)
    assert refused.actor_label == auditor.username


def test_a_manager_chooses_among_the_groups_they_manage(console: Console, manager: Member) -> None:
    theirs = make_group("theirs", managers=[manager])
    other = make_group("other", managers=[make_member("manager")])
    client = console(manager)
    page = client.get(ADD).content.decode()
    assert f'<option value="{theirs.pk}" data-name' in page
    assert f'<option value="{other.pk}" data-name' not in page
    assert "All groups (unscoped)" not in page
    assert "consumer_group" in errors(create(client, consumer_group=other.pk))
    assert "consumer_group" in errors(create(client, consumer_group=""))
    assert shown_value(create(client, consumer_group=theirs.pk))


def edit(client: Client, key: GatewayKey, **given: Any) -> Any:
    now = {
        "name": key.name,
        "consumer_group": key.consumer_group_id or "",
        "allowed_networks": "\n".join(key.allowed_networks),
        "expiry": "keep",
    }
    return save(client, page_of(key), form(**{**now, **given}))


def test_an_edit_changes_what_was_changed_and_keeps_the_rest(console: Console, admin: Member) -> None:
    group = make_group()
    key = make_key("before", expires_at=clock.now() + timedelta(days=5), allowed_networks=["10.0.0.0/8"]).key
    response = edit(console(admin), key, name="after", consumer_group=group.pk)
    assert response.status_code == 302
    entry = AuditEntry.objects.get(action=AuditAction.KEY_EDITED)
    assert set(entry.after) == {"name", "consumer_group", "consumer_group_id"}
    key.refresh_from_db()
    assert (key.name, key.consumer_group) == ("after", group)
    assert key.allowed_networks == ["10.0.0.0/8"]


def test_an_edit_without_changes_leaves_no_entry(console: Console, admin: Member) -> None:
    edit(console(admin), make_key(expires_at=clock.now() + timedelta(days=5)).key)
    assert not AuditEntry.objects.filter(action=AuditAction.KEY_EDITED).exists()


def test_an_edit_sets_the_expiry_only_where_it_was_chosen(console: Console, admin: Member) -> None:
    key = make_key(expires_at=clock.now() + timedelta(days=5)).key
    edit(console(admin), key, expiry="30")
    key.refresh_from_db()
    assert key.lifetime is not None
    assert round(key.lifetime / timedelta(days=1)) == 30
    edit(console(admin), key, expiry="never")
    key.refresh_from_db()
    assert key.expires_at is None


def test_a_move_is_held_against_the_new_groups_policy(console: Console, admin: Member) -> None:
    key = make_key(expires_at=clock.now() + timedelta(days=200)).key
    strict = make_group(max_lifetime_days=30)
    response = edit(console(admin), key, consumer_group=strict.pk)
    assert "at most 30 days" in errors(response)["expiry"][0]


def test_an_edit_keeps_an_expiry_that_todays_policy_would_refuse(console: Console, admin: Member) -> None:
    group = make_group()
    key = make_key(consumer_group=group, expires_at=clock.now() + timedelta(days=200)).key
    ConsumerGroup.objects.update(max_lifetime_days=30)
    assert edit(console(admin), key, name="renamed").status_code == 302


def test_a_manager_may_not_edit_what_they_do_not_manage(console: Console, manager: Member) -> None:
    make_group(managers=[make_member("manager")])
    unscoped = make_key("unscoped").key
    client = console(manager)
    assert "Edit" not in [name for name, _ in client.get(page_of(unscoped)).context["adminform"].fieldsets]
    assert edit(client, unscoped, name="theirs").status_code == 403
    assert AuditEntry.objects.get(action=AuditAction.KEY_EDIT_REFUSED).object_id == str(unscoped.pk)


def test_an_auditor_may_not_edit_and_the_attempt_is_recorded(console: Console, auditor: Member) -> None:
    key = make_key("before").key
    assert edit(console(auditor), key, name="after").status_code == 403
    assert AuditEntry.objects.filter(action=AuditAction.KEY_EDIT_REFUSED).count() == 1


@pytest.mark.parametrize("verb", ["revoke", "expire"])
def test_a_key_that_is_over_is_only_read(verb: str, console: Console, admin: Member) -> None:
    key = make_key("before").key
    if verb == "revoke":
        lifecycle.revoke(actor=TESTS, key_id=key.pk)
    else:
        past = clock.now() - timedelta(days=1)
        GatewayKey.objects.update(created_at=past, expires_at=past + timedelta(hours=1), lifetime=timedelta(hours=1))
    client = console(admin)
    page = client.get(page_of(key))
    assert page.context["adminform"].fieldsets == []
    assert "Create a new one instead" in page.content.decode()
    response = edit(client, key, name="after")
    assert response.status_code == 302
    assert "Create a new one instead" in client.get(response["Location"]).content.decode()
    key.refresh_from_db()
    assert key.name == "before"
    assert AuditEntry.objects.filter(action=AuditAction.KEY_EDIT_REFUSED).count() == 1


def test_what_a_member_may_not_see_does_not_exist(console: Console, manager: Member) -> None:
    hidden = make_key(consumer_group=make_group(managers=[make_member("manager")])).key
    client = console(manager)
    assert client.get(page_of(hidden)).status_code == 404
    assert edit(client, hidden).status_code == 404
    assert client.get(f"{KEYS}nonsense/change/").status_code == 404
    assert client.get(f"{KEYS}{uuid4()}/change/").status_code == 404

"""Two people edit the same thing in the console: the slower one is told, and overwrites nothing unless they say so."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from django.db.models import Model

from access.members import edit_member
from access.models import Member
from audit.models import AuditEntry
from gateways.registry import edit_gateway
from keys import lifecycle
from keys.groups import edit_group
from keys.installation import edit_policy
from keys.models import InstallationPolicy
from tests.factories import actor_of, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import known_state, save, text_of
from tests.races import at_once
from tests.webhooks.makers import make_endpoint
from webhooks.endpoints import edit_endpoint

FORMS: dict[str, dict[str, Any]] = {
    "gatewaykey": {"name": "billing", "expiry": "keep", "allowed_networks": "", "consumer_group": "", "expires_on": ""},
    "consumergroup": {
        "name": "Payments",
        "allowed_networks": "",
        **dict.fromkeys(("default_lifetime_days", "max_lifetime_days", "idle_days", "max_grace_seconds"), ""),
    },
    "gateway": {"name": "edge", "usage_source": "authorize", "client_address": "header"},
    "member": {"name": "Mo", "email": ""},
    "webhookendpoint": {"name": "pager", "url": "https://8.8.8.8/"},
}
# The texts that each form keeps and shows again.
TEXT = {"gatewaykey": "description", "consumergroup": "description", "gateway": "name", "member": "name"}
TEXT["webhookendpoint"] = "description"
KINDS = sorted(FORMS)


def make(kind: str) -> Model:
    match kind:
        case "gatewaykey":
            return make_key("billing").key
        case "consumergroup":
            return make_group("payments", name="Payments")
        case "gateway":
            return make_gateway("edge").gateway
        case "webhookendpoint":
            return make_endpoint("pager")
        case _:
            return make_member("manager", username="mo", name="Mo")


def edit_elsewhere(kind: str, obj: Any, by: Member, text: str) -> None:
    changed = {TEXT[kind]: text}
    match kind:
        case "gatewaykey":
            lifecycle.edit(actor=actor_of(by), key_id=obj.pk, changed=changed)
        case "consumergroup":
            edit_group(actor=actor_of(by), group_id=obj.pk, changed=changed)
        case "gateway":
            edit_gateway(actor=actor_of(by), gateway_id=obj.pk, changed=changed)
        case "webhookendpoint":
            edit_endpoint(actor=actor_of(by), endpoint_id=obj.pk, changed=changed)
        case _:
            edit_member(actor=actor_of(by), member_id=obj.pk, changed=changed)


def page_of(obj: Model) -> str:
    return f"/admin/{obj._meta.app_label}/{obj._meta.model_name}/{obj.pk}/change/"


def filled(kind: str, text: str) -> dict[str, Any]:
    return {**FORMS[kind], TEXT[kind]: text}


def text_now(kind: str, obj: Model) -> str:
    obj.refresh_from_db()
    return str(getattr(obj, TEXT[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_slower_editor_is_told_who_changed_what_and_keeps_what_they_typed(
    kind: str, browser: BrowserOf, admin: Member
) -> None:
    obj, other = make(kind), make_member("admin", username="olga.other")
    client, page = browser(admin), page_of(obj)
    opened = known_state(client, page)
    edit_elsewhere(kind, obj, other, "what olga wrote")
    answer = client.post(page, {**opened, **filled(kind, "what ada typed")})
    words = text_of(answer)
    assert "Not saved: olga.other has changed this meanwhile." in words
    assert "Not saved: somebody else has changed this since you opened it." in words
    assert "olga.other" in words
    assert "is now what olga wrote" in words
    assert "what ada typed" in answer.content.decode()
    assert text_now(kind, obj) == "what olga wrote"


@pytest.mark.parametrize("kind", KINDS)
def test_who_says_so_saves_over_what_they_were_told_of_and_nothing_newer(
    kind: str, browser: BrowserOf, admin: Member
) -> None:
    obj, other = make(kind), make_member("admin")
    client, page = browser(admin), page_of(obj)
    sent = {**known_state(client, page), **filled(kind, "mine")}
    edit_elsewhere(kind, obj, other, "second")
    over = over_of(client.post(page, sent))
    edit_elsewhere(kind, obj, other, "third")
    again = client.post(page, {**sent, **over})
    assert "is now third" in text_of(again)
    assert text_now(kind, obj) == "third"
    assert client.post(page, {**sent, **over_of(again)}).status_code == 302
    assert text_now(kind, obj) == "mine"


def test_the_page_around_the_form_shows_what_is_saved(browser: BrowserOf, admin: Member) -> None:
    key = make_key("billing").key
    client = browser(admin)
    sent = {**known_state(client, page_of(key)), **filled("gatewaykey", "only typed")}
    edit_elsewhere("gatewaykey", key, admin, "saved")
    page = client.post(page_of(key), sent).content.decode()
    # In the field alone.
    assert page.count("only typed") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_anybody_else_a_form_is_saved(kind: str, browser: BrowserOf, admin: Member) -> None:
    obj = make(kind)
    client = browser(admin)
    assert save(client, page_of(obj), filled(kind, "one")).status_code == 302
    assert save(client, page_of(obj), filled(kind, "two")).status_code == 302
    assert text_now(kind, obj) == "two"


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_that_does_not_say_what_it_edits_is_not_saved(kind: str, browser: BrowserOf, admin: Member) -> None:
    obj = make(kind)
    before = text_now(kind, obj)
    answer = browser(admin).post(page_of(obj), filled(kind, "blind"))
    assert "The form is incomplete. Load the page again." in text_of(answer)
    assert text_now(kind, obj) == before


def test_a_refused_attempt_of_somebody_else_is_no_change(browser: BrowserOf, admin: Member, auditor: Member) -> None:
    key = make_key("billing").key
    client = browser(admin)
    opened = known_state(client, page_of(key))
    browser(auditor).post(page_of(key), filled("gatewaykey", "no"))
    assert AuditEntry.objects.filter(action="gateway_key.edit_refused").exists()
    assert client.post(page_of(key), {**opened, **filled("gatewaykey", "mine")}).status_code == 302


@pytest.mark.parametrize("seen", ["", "x", "9" * 30, "²"])
def test_a_form_that_was_tampered_with_is_answered_all_the_same(seen: str, browser: BrowserOf, admin: Member) -> None:
    key = make_key("billing").key
    sent = {"state_tag": "gone", "seen_entry": seen, **filled("gatewaykey", "mine")}
    answer = browser(admin).post(page_of(key), sent)
    assert answer.status_code == 200
    assert "Not saved" in text_of(answer)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", KINDS)
def test_of_two_forms_sent_at_the_same_moment_one_is_saved(kind: str, browser: BrowserOf, admin: Member) -> None:
    obj, other = make(kind), make_member("admin")
    clients = {"from ada": browser(admin), "from olga": browser(other)}
    sent = {text: known_state(client, page_of(obj)) | filled(kind, text) for text, client in clients.items()}
    answers = at_once(*[partial(client.post, page_of(obj), sent[text]) for text, client in clients.items()])
    assert sorted(answer.status_code for answer in answers) == [200, 302]  # type: ignore[union-attr]  # no Conflict
    saved = next(text for text, answer in zip(clients, answers, strict=True) if answer.status_code == 302)  # type: ignore[union-attr]
    assert text_now(kind, obj) == saved


def policy(**given: str) -> dict[str, str]:
    rules = ("default_lifetime_days", "max_lifetime_days", "max_grace_seconds", "idle_days", "allowed_networks")
    return {**dict.fromkeys(rules, ""), **given}


def test_of_two_who_edit_the_installations_policy_the_slower_is_told(browser: BrowserOf, admin: Member) -> None:
    other, page, client = make_member("admin", username="olga.other"), "/admin/policy/", browser(admin)
    opened = known_state(client, page)
    edit_policy(actor=actor_of(other), changed={"idle_days": 300})
    answer = client.post(page, {**opened, **policy(max_lifetime_days="90")})
    words = text_of(answer)
    assert "Not saved: somebody else has changed this since you opened it." in words
    assert "olga.other" in words
    assert 'value="90"' in answer.content.decode()
    assert (InstallationPolicy.objects.get().idle_days, InstallationPolicy.objects.get().max_lifetime_days) == (
        300,
        None,
    )
    over = {**opened, **over_of(answer), **policy(max_lifetime_days="90")}
    assert client.post(page, over).status_code == 302
    assert (InstallationPolicy.objects.get().idle_days, InstallationPolicy.objects.get().max_lifetime_days) == (
        None,
        90,
    )
    assert "The form is incomplete" in text_of(client.post(page, policy(max_lifetime_days="30")))


def over_of(answer: Any) -> dict[str, str]:
    """Return the choice to save over it, as the form offers it."""
    found = re.search(r'name="save_over" value="([^"]+)"', answer.content.decode())
    assert found, text_of(answer)
    return {"save_over": found[1]}

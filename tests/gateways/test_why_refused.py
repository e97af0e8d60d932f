"""Why was I refused: the search of denials, and the explanation of each reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from access.models import Member
from access.rules import Role
from audit import clock
from gateways.models import Gateway
from keys import lifecycle
from keys.models import ConsumerGroup
from tests.factories import TESTS, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import main_of, text_of
from tests.usage.test_console import make_event
from usage.models import UsageEvent

pytestmark = pytest.mark.django_db
WHY = "/admin/why-refused/"


@pytest.fixture
def gateway(db: None) -> Gateway:
    return make_gateway("edge-eu").gateway


def why(client: Any, event: UsageEvent) -> str:
    return main_of(client.get(f"{WHY}{event.pk}/"))


@pytest.mark.parametrize("by", ["decision", "key id", "name", "hint", "group", "address"])
def test_a_denial_is_found(browser: BrowserOf, auditor: Member, gateway: Gateway, by: str) -> None:
    issued = make_key("billing", consumer_group=make_group("payments"))
    facts = {"reason": "key_revoked", "decision_id": "01JD-decision", "client_ip": "2001:db8::7"}
    make_event(gateway, issued, **facts)
    make_event(gateway, make_key("other"), reason="key_disabled", client_ip="192.0.2.9")
    terms = {
        "decision": "01JD-decision",
        "key id": str(issued.key.pk),
        "name": "bill",
        "hint": issued.value[:10],
        "group": "payments",
        "address": "2001:db8:0::7",
    }
    page = main_of(browser(auditor).get(WHY, {"q": terms[by]}))
    assert "billing" in page
    assert "192.0.2.9" not in page


def test_the_window_and_the_reason_narrow(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing")
    make_event(gateway, issued, reason="key_revoked", occurred_at=clock.now() - timedelta(days=3))
    client = browser(auditor)
    assert "No request was refused" in main_of(client.get(WHY))
    assert "billing" in main_of(client.get(WHY, {"window": "7d"}))
    assert "billing" not in main_of(client.get(WHY, {"window": "7d", "reason": "key_disabled"}))


def test_a_decision_id_is_found_however_old(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    long_ago = clock.now() - timedelta(days=60)
    make_event(gateway, make_key("billing"), reason="key_revoked", decision_id="01JD-old", occurred_at=long_ago)
    assert "billing" in main_of(browser(auditor).get(WHY, {"q": "01JD-old"}))


def test_a_whole_value_that_is_searched_for_never_gets_into_an_address(browser: BrowserOf, admin: Member) -> None:
    issued = make_key()
    response = browser(admin).post(WHY, {"q": f"Bearer {issued.value}", "window": "7d"})
    assert issued.value not in response.headers["Location"]
    assert issued.value[:10] in response.headers["Location"]


@pytest.mark.parametrize("q", ["\x00", "kt_", "…", "%", "9" * 300, "::ffff:1.2.3.4", "'"])
def test_no_search_is_an_error(browser: BrowserOf, admin: Member, q: str) -> None:
    assert browser(admin).get(WHY, {"q": q, "window": "x", "reason": "x"}).status_code == 200


@pytest.mark.parametrize("which", ["0", "x", "9" * 40, "\x00"])
def test_what_is_no_denial_is_not_found(browser: BrowserOf, admin: Member, which: str) -> None:
    assert browser(admin).get(f"{WHY}{which}/").status_code == 404


def test_a_request_that_was_served_is_no_denial(browser: BrowserOf, admin: Member, gateway: Gateway) -> None:
    assert browser(admin).get(f"{WHY}{make_event(gateway, make_key()).pk}/").status_code == 404


def test_a_manager_sees_their_own_keys_denials_only(browser: BrowserOf, manager: Member, gateway: Gateway) -> None:
    theirs = make_key("billing", consumer_group=make_group("payments", managers=[manager]))
    other = make_key("crawler", consumer_group=make_group("search", managers=[make_member(Role.MANAGER)]))
    make_event(gateway, theirs, reason="key_revoked")
    hidden = make_event(gateway, other, reason="key_revoked")
    client = browser(manager)
    page = main_of(client.get(WHY))
    assert "billing" in page
    assert "crawler" not in page
    assert client.get(f"{WHY}{hidden.pk}/").status_code == 404


def test_an_old_value_after_its_grace(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing")
    rotated = lifecycle.rotate(actor=TESTS, key_id=issued.key.pk, grace=timedelta(0))
    page = why(browser(auditor), make_event(gateway, issued, reason="grace_over"))
    assert f"Version 1 ({issued.version.hint}) was accepted until" in page
    assert f"The current value's hint is {rotated.version.hint}" in page
    assert "It would still be refused (grace_over)" in page


def test_another_group_than_the_gateway_said(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing", consumer_group=make_group("payments"))
    page = why(browser(auditor), make_event(gateway, issued, reason="group_mismatch"))
    assert "Which one is not kept with the event" in page
    assert "Let the route of edge-eu say “payments”" in page
    assert "It would pass if the gateway says that the traffic is of “payments”, or says no group" in page


def test_another_group_that_the_gateway_stated_is_told_and_asked_again(
    browser: BrowserOf, auditor: Member, gateway: Gateway
) -> None:
    issued = make_key("billing", consumer_group=make_group("payments"))
    make_group("search", name="Search")
    page = why(browser(auditor), make_event(gateway, issued, reason="group_mismatch", stated_group="search"))
    assert "Group the gateway stated “Search” (search)" in page
    assert "the gateway said “Search” (search)." in page
    assert "It would still be refused (group_mismatch)" in page
    assert "from the same address and the same stated group" in page
    lifecycle.edit(
        actor=TESTS, key_id=issued.key.pk, changed={"consumer_group": ConsumerGroup.objects.get(slug="search")}
    )
    page = why(browser(auditor), UsageEvent.objects.get())
    assert "It would pass if the gateway says “Search” (search) again." in page


def test_a_gateway_that_stated_no_group_and_must(browser: BrowserOf, auditor: Member) -> None:
    edge = make_gateway("edge-us", require_group=True).gateway
    issued = make_key("billing", consumer_group=make_group("payments"))
    page = why(browser(auditor), make_event(edge, issued, reason="group_mismatch", stated_group=""))
    assert "the gateway said no group, and this gateway must say one." in page
    assert "Or use a key of the group that the route says" not in page
    assert "It would still be refused (group_mismatch)" in page


def test_a_stated_group_that_is_none_is_shown_as_it_was_written(
    browser: BrowserOf, auditor: Member, gateway: Gateway
) -> None:
    issued = make_key("billing", consumer_group=make_group("payments"))
    event = make_event(gateway, issued, reason="group_mismatch", stated_group="<b>paymnets")
    response = browser(auditor).get(f"{WHY}{event.pk}/")
    assert "<b>paymnets" not in response.content.decode()
    assert "“<b>paymnets”, which is no group's slug" in main_of(response)


def test_a_stated_group_that_they_do_not_manage_is_not_named_to_a_manager(
    browser: BrowserOf, manager: Member, gateway: Gateway
) -> None:
    make_group("secret-project", managers=[make_member(Role.MANAGER)])
    issued = make_key("billing", consumer_group=make_group("payments", managers=[manager]))
    event = make_event(gateway, issued, reason="group_mismatch", stated_group="secret-project")
    page = why(browser(manager), event)
    assert "the gateway said a group that you do not manage." in page
    assert "secret-project" not in page


def test_a_gateway_that_does_not_serve_the_group(browser: BrowserOf, auditor: Member) -> None:
    edge = make_gateway("edge-us", consumer_groups=[make_group("search")]).gateway
    issued = make_key("billing", consumer_group=make_group("payments"))
    page = why(browser(auditor), make_event(edge, issued, reason="gateway_not_allowed"))
    assert "On record the gateway now serves: “search” (search)" in page
    assert "It would still be refused (gateway_not_allowed)" in page


def test_other_groups_are_not_named_to_a_manager(browser: BrowserOf, manager: Member) -> None:
    secret = make_group("secret-project", managers=[make_member(Role.MANAGER)])
    edge = make_gateway("edge-us", consumer_groups=[secret]).gateway
    issued = make_key("billing", consumer_group=make_group("payments", managers=[manager]))
    page = why(browser(manager), make_event(edge, issued, reason="gateway_not_allowed"))
    assert "secret-project" not in page
    assert "1 group that you do not manage" in page


def test_a_network_that_is_not_allowed(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing", allowed_networks=["10.0.0.0/8"])
    event = make_event(gateway, issued, reason="network_not_allowed", client_ip="192.0.2.1")
    client = browser(auditor)
    page = why(client, event)
    assert "It came from 192.0.2.1; the key allows 10.0.0.0/8" in page
    assert "It would still be refused (network_not_allowed)" in page
    lifecycle.edit(actor=TESTS, key_id=issued.key.pk, changed={"allowed_networks": ["192.0.2.0/24"]})
    assert "It would pass" in why(client, event)


def test_checks_stand_in_their_order(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing")
    lifecycle.disable(actor=TESTS, key_id=issued.key.pk)
    page = why(browser(auditor), make_event(gateway, issued, reason="key_disabled"))
    assert "Passed The key has not expired" in page
    assert "Failed The key is not disabled" in page
    assert "Not asked The value is the current one" in page


@pytest.mark.parametrize("reason", ["key_missing", "key_malformed", "key_unknown", "of_a_later_release"])
def test_a_denial_of_no_key_is_explained_too(browser: BrowserOf, admin: Member, gateway: Gateway, reason: str) -> None:
    assert "it cannot be asked again" in why(browser(admin), make_event(gateway, reason=reason))


def test_the_keys_page_tells_denials_by_reason(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing")
    now = clock.now()
    make_event(gateway, issued, reason="network_not_allowed")
    make_event(gateway, issued, reason="network_not_allowed", occurred_at=now - timedelta(days=2))
    client, key = browser(auditor), f"/admin/keys/gatewaykey/{issued.key.pk}/"
    assert f'hx-get="{key}denials/" hx-trigger="load"' in client.get(f"{key}change/").content.decode()
    response = client.get(f"{key}denials/")
    assert "From a network that is not allowed 1 2" in text_of(response)
    assert f"?q={issued.key.pk}&amp;window=7d&amp;reason=network_not_allowed" in response.content.decode()

"""Gateways in the console: registered, edited, and given new tokens, each shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from access.tokens import digest
from audit import clock
from audit.actions import AuditAction
from audit.models import AuditEntry
from gateways.models import Gateway, GatewayToken
from tests.factories import make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, confirmed, main_of, save, secret_of, text_of
from usage.models import UsageBucket

GATEWAYS = "/admin/gateways/gateway/"


def page_of(gateway: Gateway) -> str:
    return f"{GATEWAYS}{gateway.pk}/change/"


def particulars(**given: Any) -> dict[str, Any]:
    return {"name": "edge", "usage_source": "authorize", "client_address": "header", "form_token": uuid4(), **given}


def test_a_new_gateway_shows_its_token_once_and_how_to_use_it(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    response = client.post(f"{GATEWAYS}add/", particulars())
    value = secret_of(response)
    assert bytes(GatewayToken.objects.get().digest) == digest(value)
    assert "/gateway/v1/authorize" in text_of(response)
    assert "X-Keeptrusts-Gateway-Token" in text_of(response)
    assert "no-store" in response["Cache-Control"]
    assert value not in client.get(page_of(Gateway.objects.get())).content.decode()
    assert value not in client.get(GATEWAYS).content.decode()


def test_a_reporting_gateway_is_told_where_to_report(browser: BrowserOf, admin: Member) -> None:
    response = browser(admin).post(f"{GATEWAYS}add/", particulars(usage_source="report"))
    assert "/gateway/v1/usage" in text_of(response)


def test_a_gateway_is_limited_to_groups(browser: BrowserOf, admin: Member) -> None:
    group = make_group("payments", name="Payments")
    browser(admin).post(f"{GATEWAYS}add/", particulars(consumer_groups=[group.pk], require_group="on"))
    gateway = Gateway.objects.get()
    assert list(gateway.consumer_groups.all()) == [group]
    assert gateway.require_group
    assert column(browser(admin).get(GATEWAYS), "groups") == ["Payments"]


def test_an_edit_goes_through_the_registry(browser: BrowserOf, admin: Member) -> None:
    gateway = make_gateway("edge").gateway
    save(browser(admin), page_of(gateway), particulars(name="edge-2", usage_source="report"))
    gateway.refresh_from_db()
    assert (gateway.name, gateway.usage_source) == ("edge-2", "report")
    entry = AuditEntry.objects.get(action=AuditAction.GATEWAY_EDITED)
    assert entry.after == {"name": "edge-2", "usage_source": "report"}
    assert entry.actor_id == str(admin.pk)


def test_a_name_that_is_taken_is_said_at_the_field(browser: BrowserOf, admin: Member) -> None:
    make_gateway("edge")
    response = browser(admin).post(f"{GATEWAYS}add/", particulars())
    assert "Gateway with this Name already exists." in main_of(response)


@pytest.mark.parametrize(("overlap", "accepted"), [("0", False), ("3600", True)])
def test_rotating_a_token_keeps_the_old_one_as_long_as_chosen(
    browser: BrowserOf, admin: Member, overlap: str, accepted: bool
) -> None:
    issued = make_gateway()
    dialog = f"{GATEWAYS}{issued.gateway.pk}/rotate_token/"
    response = browser(admin).post(dialog, confirmed(overlap=overlap))
    new = GatewayToken.objects.get(valid_until__isnull=True)
    assert bytes(new.digest) == digest(secret_of(response))
    assert response["HX-Retarget"] == "#dialog"
    assert "no-store" in response["Cache-Control"]
    issued.token.refresh_from_db()
    assert issued.token.is_usable(clock.now()) is accepted


def test_a_rotation_sent_twice_is_carried_out_once(browser: BrowserOf, admin: Member) -> None:
    issued = make_gateway()
    client, sent = browser(admin), confirmed(overlap="3600")
    client.post(f"{GATEWAYS}{issued.gateway.pk}/rotate_token/", sent)
    again = client.post(f"{GATEWAYS}{issued.gateway.pk}/rotate_token/", sent)
    assert "A token is not shown twice." in text_of(again)
    assert GatewayToken.objects.count() == 2


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_others_look_and_change_nothing(browser: BrowserOf, role: str) -> None:
    gateway = make_gateway("edge").gateway
    client = browser(make_member(role))
    page = client.get(page_of(gateway))
    assert page.status_code == 200
    assert "Save" not in main_of(page)
    assert "rotate_token" not in page.content.decode()
    assert "Register Gateway" not in main_of(client.get(GATEWAYS))
    assert save(client, page_of(gateway), particulars(name="mine")).status_code == 403
    assert client.post(f"{GATEWAYS}add/", particulars(name="mine")).status_code == 403
    assert client.post(f"{GATEWAYS}{gateway.pk}/rotate_token/", confirmed(overlap="0")).status_code == 403
    assert Gateway.objects.get().name == "edge"
    assert GatewayToken.objects.count() == 1
    refused = AuditEntry.objects.filter(action__endswith="refused").values_list("action", flat=True)
    assert sorted(refused) == [
        AuditAction.GATEWAY_CREATE_REFUSED,
        AuditAction.GATEWAY_EDIT_REFUSED,
        AuditAction.GATEWAY_ROTATE_TOKEN_REFUSED,
    ]


def test_a_manager_is_told_of_their_own_groups_only(browser: BrowserOf, manager: Member) -> None:
    theirs = make_group("mine", name="Mine", managers=[manager])
    others = make_group("others", name="Others", managers=[make_member("manager")])
    make_gateway("shared", consumer_groups=[theirs, others])
    hidden = make_gateway("hidden", consumer_groups=[others]).gateway
    client = browser(manager)
    response = client.get(GATEWAYS)
    assert column(response, "name") == ["shared"]
    assert column(response, "groups") == ["Mine"]
    assert client.get(page_of(hidden)).status_code == 404
    assert client.get(GATEWAYS, {"consumer_groups": others.pk}).content.decode().count("Others") == 0


def test_the_list_says_when_a_gateway_was_last_heard_of(browser: BrowserOf, admin: Member) -> None:
    gateway = make_gateway().gateway
    version = make_key().version
    start = clock.now().replace(minute=0, second=0, microsecond=0)
    UsageBucket.objects.create(start=start, gateway=gateway, version=version, requests=1)
    make_gateway()
    with time_machine.travel(start + timedelta(hours=3), tick=False):
        response = browser(admin).get(GATEWAYS)
    assert column(response, "seen_at") == [f"{start:%Y-%m-%d %H:%M} UTC 3 hours ago", "not in the last 7 days"]


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, django_assert_num_queries: DjangoAssertNumQueries, role: str, count: int
) -> None:
    group = make_group()
    for _ in range(count):
        make_gateway(consumer_groups=[group])
    client = browser(make_member(role))
    # session, member, groups to filter by, count, rows, tokens, groups, last seen
    with django_assert_num_queries(8):
        client.get(GATEWAYS)

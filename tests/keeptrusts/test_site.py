"""The console's frame: sign-in, sidebar and tabs, and the pages for what goes wrong."""

from __future__ import annotations

import re
from typing import Final

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from access.models import Member
from keeptrusts.navigation import EVIDENCE, SETTINGS, TABS, TEAM
from tests.factories import PASSWORD, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import main_of, text_of

SCREENS = (*SETTINGS, *EVIDENCE, *TEAM)
PAGES = [screen.route for screen in SCREENS]


def sign_in(client: Client, username: str, password: str, path: str = "/admin/login/") -> int:
    return client.post(path, {"username": username, "password": password}).status_code


def sidebar_of(page: str) -> str:
    return page[page.index('id="nav-sidebar-apps"') : page.index('id="main"')]


# --- sign-in ----------------------------------------------------------------------------------------------------------


def test_sign_in_needs_no_next(client: Client, auditor: Member) -> None:
    response = client.post("/admin/login/", {"username": auditor.username, "password": PASSWORD})
    assert response.headers["Location"] == "/admin/"
    assert client.get("/admin/login/").headers["Location"] == "/admin/"


def test_the_root_leads_to_the_console(client: Client, auditor: Member) -> None:
    assert client.get("/").headers["Location"] == "/admin/"
    assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"


def test_the_sign_in_page_says_keeptrusts(client: Client, db: None) -> None:
    page = text_of(client.get("/admin/login/"))
    assert "Sign in to Keeptrusts" in page
    assert "administration" not in page.lower()


def test_sign_in_never_leads_to_another_site(client: Client, auditor: Member) -> None:
    response = client.post(
        "/admin/login/?next=https://elsewhere.example/", {"username": auditor.username, "password": PASSWORD}
    )
    assert response.headers["Location"] == "/admin/"


def test_a_failed_sign_in_does_not_say_what_was_wrong(client: Client, auditor: Member) -> None:
    Member.objects.filter(pk=make_member("auditor", username="gone").pk).update(is_active=False)
    said = set()
    for username, password in ((auditor.username, "wrong"), ("nobody", "wrong"), ("gone", PASSWORD)):
        response = client.post("/admin/login/", {"username": username, "password": password})
        found = re.search(r"No active member has this username and password\.", text_of(response))
        said.add(found[0] if found else username)
    assert said == {"No active member has this username and password."}


def test_ten_failures_lock_the_sign_in_with_a_page_of_ours(client: Client, auditor: Member) -> None:
    for _ in range(9):
        assert sign_in(client, auditor.username, "wrong") == 200
    response = client.post("/admin/login/", {"username": auditor.username, "password": "wrong"})
    assert response.status_code == 429
    page = text_of(response)
    assert "Sign-in is locked for now" in page
    assert "10 failed attempts" in page
    assert "Wait 15 minutes" in page
    assert sign_in(client, auditor.username, PASSWORD) == 429


def test_signing_out_says_so(browser: BrowserOf, auditor: Member) -> None:
    client = browser(auditor)
    assert "You are signed out" in text_of(client.post("/admin/logout/"))
    assert client.get("/admin/").status_code == 302


# --- the sidebar ------------------------------------------------------------------------------------------------------


SIGHTS: Final = (
    *("Gateway Keys", "Hygiene", "Consumer Groups", "Policy", "Gateways", "Find a Key"),
    *("Usage Events", "Why Refused?", "Reports", "Audit Log"),
)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (
            "admin",
            [*SIGHTS, "Webhooks", "Deliveries", "Members", "Access Keys"],
        ),
        ("manager", [*SIGHTS, "Access Keys"]),
        ("auditor", [*SIGHTS, "Access Keys"]),
    ],
)
def test_the_sidebar_shows_what_the_role_may_see(browser: BrowserOf, role: str, expected: list[str]) -> None:
    page = sidebar_of(browser(make_member(role)).get("/admin/").content.decode())
    titles = [title.strip() for title in re.findall(r"<span>([^<]*)</span>", page)]
    assert titles == ["Dashboard", *expected]
    for screen in SCREENS:
        assert (f'href="{reverse(screen.route)}"' in page) == (screen.title in expected)


@pytest.mark.parametrize("route", ["admin:index", *PAGES])
def test_one_item_of_the_sidebar_is_marked(browser: BrowserOf, admin: Member, route: str) -> None:
    page = sidebar_of(browser(admin).get(reverse(route)).content.decode())
    marked = re.findall(r'href="([^"]*)" class="[^"]*\bactive"', page)
    assert marked == [reverse(route)]


def test_gateway_keys_is_a_tab_of_settings(browser: BrowserOf, admin: Member) -> None:
    for screen in TABS:
        page = browser(admin).get(reverse(screen.route)).content.decode()
        tabs = page[page.index('id="tabs-items"') :].split("</nav>")[0]
        found = re.findall(r'<a href="([^"]*)" class="([^"]*)" *>\s*([^<]*?)\s*</a>', tabs)
        assert [title for _, _, title in found] == ["Gateway Keys", "Consumer Groups", "Gateways"]
        assert [link for link, marked, _ in found if marked == "active"] == [reverse(screen.route)]


def test_the_sidebar_says_who_is_signed_in_and_in_which_role(browser: BrowserOf) -> None:
    member = make_member("auditor", name="Amy Auditor")
    assert "Amy Auditor Auditor" in text_of(browser(member).get("/admin/"))


@pytest.mark.parametrize("path", ["/admin/", *[f"/admin/{app}/" for app in ("keys", "gateways", "access", "audit")]])
def test_nothing_says_administration(browser: BrowserOf, admin: Member, path: str) -> None:
    make_key()
    response = browser(admin).get(path)
    assert response.status_code == 200
    assert "administration" not in text_of(response).lower()
    assert "| Keeptrusts" in response.content.decode()


def test_a_part_of_the_sidebar_lists_all_its_screens(browser: BrowserOf, auditor: Member) -> None:
    page = main_of(browser(auditor).get("/admin/keys/"))
    for title in ("Gateway keys", "Consumer groups", "Gateways"):
        assert title in page


def test_only_our_models_have_screens() -> None:
    labels = sorted(model._meta.label for model in admin.site._registry)
    assert labels == [
        "access.AccessKey",
        "access.Member",
        "audit.AuditEntry",
        "gateways.Gateway",
        "keys.ConsumerGroup",
        "keys.GatewayKey",
        "usage.UsageEvent",
        "webhooks.Delivery",
        "webhooks.WebhookEndpoint",
    ]


@pytest.mark.parametrize("query", ["s=keys", "s=keys&page=x", "s=keys&page=999", "s="])
def test_the_command_palette_never_fails(browser: BrowserOf, auditor: Member, query: str) -> None:
    assert browser(auditor).get(f"/admin/search/?{query}").status_code == 200


def test_the_palette_finds_only_what_the_role_sees(browser: BrowserOf, auditor: Member, admin: Member) -> None:
    assert "/admin/access/member/" in browser(admin).get("/admin/search/?s=members").content.decode()
    assert "/admin/access/member/" not in browser(auditor).get("/admin/search/?s=members").content.decode()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_unknown_page_is_said_in_plain_words(client: Client, db: None) -> None:
    response = client.get("/no/such/page")
    assert response.status_code == 404
    assert "There is nothing here" in text_of(response)
    assert "no/such/page" not in text_of(response)


def test_a_refusal_is_said_in_plain_words(browser: BrowserOf, auditor: Member) -> None:
    response = browser(auditor).get("/admin/access/member/")
    assert response.status_code == 403
    assert "Your role does not allow this" in text_of(response)


def test_a_failure_says_nothing_of_its_cause(
    browser: BrowserOf, auditor: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the cause, which is nobody's business")

    monkeypatch.setattr("keeptrusts.dashboard.day_against_before", fail)
    client = browser(auditor)
    client.raise_request_exception = False
    response = client.get("/admin/")
    assert response.status_code == 500
    assert "Something went wrong on our side" in text_of(response)
    assert "business" not in response.content.decode()


def test_a_form_without_its_csrf_token_is_said_in_plain_words(auditor: Member) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post("/admin/login/", {"username": auditor.username, "password": PASSWORD})
    assert response.status_code == 403
    assert "This form is too old" in text_of(response)


def test_a_request_that_cannot_be_read_is_said_in_plain_words(client: Client, db: None) -> None:
    response = client.get("/admin/login/", headers={"host": "elsewhere.example"})
    assert response.status_code == 400
    assert "That request could not be read" in text_of(response)


@pytest.mark.parametrize("path", ["/admin/login/", "/no/such/page"])
def test_no_page_has_a_script_in_it_or_leaves_this_host(client: Client, db: None, path: str) -> None:
    page = client.get(path).content.decode()
    assert not re.findall(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", page)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)

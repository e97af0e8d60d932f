"""Every screen of the console, as each role sees it: axe-core, the browser's own complaints, and narrow screens.

The screens are the permission matrix's: whatever a role gets there with 200 is looked at here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import pytest
from django.contrib import messages
from django.contrib.messages.storage.cookie import CookieStorage
from django.http import HttpResponse
from django.test import Client, RequestFactory
from playwright.sync_api import Browser, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from access.models import Member
from access.rules import Role
from tests import test_permission_matrix_console as matrix
from tests.browser.screens import AXE, NARROW, WIDE, Look, looking
from tests.chromium import launch
from tests.factories import make_key
from tests.fixtures import BrowserOf

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]

world = matrix.world

KEYS: Final = "/admin/keys/gatewaykey/"
# What is answered with 200 and is no screen: a catalogue of words, and pieces of pages, looked at where they stand.
# A part of the key's page, which is looked at with it, asked for alone.
NO_SCREENS: Final = {
    "jsi18n/",
    "search/",
    "passkey-options/",
    "attention/",
    "keys/gatewaykey/{key}/cutover/",
    "keys/gatewaykey/{key}/denials/",
    "keys/gatewaykey/export/",
    "usage/usageevent/export/",
    "audit/auditentry/export/",
}


# Dark or light, and the width.
type View = tuple[bool, int]


@pytest.fixture
def chromium(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    settings.ALLOWED_HOSTS = ["*"]
    # Playwright runs an event loop in this thread; the queries of the test itself are none of its business.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


def cookies_of(client: Client, base: str) -> list[dict[str, str]]:
    return [{"name": name, "value": morsel.value, "url": base} for name, morsel in client.cookies.items()]


def screens_of(role: str) -> list[str]:
    """Return the addresses that answer this role with a page or a dialog."""
    number = matrix.ROLES.index(Role(role))
    return [address for address, (get, _) in matrix.MATRIX.items() if get[number] == 200 and address not in NO_SCREENS]


def is_dialog(look: Look, address: str, path: str) -> bool:
    """Say whether a piece of a page is answered there; lists, forms and objects' own pages need not be asked."""
    may_be = ("{" in address and not address.endswith("/change/")) or address.startswith("hygiene/")
    return may_be and "<html" not in look.page.request.get(look.base + path).text()


def visit_all(look: Look, role: str, world: dict[str, Any], views: Sequence[View]) -> None:
    """Look at every screen of the role in each of the views; a dialog is opened on the page of its object."""
    ids = {name: obj.pk for name, obj in world.items()}
    screens = screens_of(role)
    for address in screens:
        path = "/admin/" + address.format(**ids)
        if is_dialog(look, address, path):
            change = re.sub(r"[^/]+/$", "change/", address)
            look.dialog(path, "/admin/" + (change.format(**ids) if change in screens else ""))
        else:
            look.at(path)
        for dark, width in views:
            look.turn(dark=dark, width=width)
            look.look(address)


# Some seventy pages each: quick where the machine is not busy, and not wrong where it is. Each is loaded once, and
# looked at in every view.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("role", "views"),
    [
        ("admin", [(False, WIDE), (True, NARROW)]),
        ("manager", [(True, WIDE)]),
        ("auditor", [(False, NARROW)]),
    ],
)
def test_every_screen_can_be_used_by_everybody(
    request: pytest.FixtureRequest,
    chromium: Browser,
    live_server: LiveServer,
    browser: BrowserOf,
    world: dict[str, Any],
    role: str,
    views: list[View],
) -> None:
    member: Member = request.getfixturevalue(role)
    client = browser(member)
    make_key("never-used")
    with looking(chromium, live_server.url, cookies=lambda: cookies_of(client, live_server.url)) as look:
        visit_all(look, role, world, views)


def test_what_opens_on_a_page_can_be_used_by_everybody(
    chromium: Browser, live_server: LiveServer, browser: BrowserOf, world: dict[str, Any], admin: Member
) -> None:
    make_key("billing-service", consumer_group=world["group"])
    client = browser(admin)
    for dark in (False, True):
        with looking(chromium, live_server.url, dark=dark, cookies=lambda: cookies_of(client, live_server.url)) as look:
            page = look.page
            look.at(KEYS)
            page.get_by_role("button", name="Actions: billing-service").click()
            page.get_by_role("menuitem", name="Rotate").wait_for()
            look.look("menu of a row")
            look.at(KEYS)
            page.locator(".filter-open-button").click()
            page.get_by_role("button", name="Apply filters").wait_for()
            look.look("filters")
            look.at(KEYS)
            page.locator("div[aria-haspopup=true]").click()
            page.get_by_role("button", name="Sign out").wait_for()
            look.look("menu of the member")
            look.at(f"{KEYS}?q=nothing-fits")
            look.look("a list that its filters have emptied")
            look.at(KEYS)
            for box in page.locator(".action-select").all():
                box.check()
            page.locator("select[name=action]").select_option("revoke_selected")
            look.look("ticked rows")
            page.locator("#changelist-form button[name=index]").click()
            page.get_by_role("button", name="for good").wait_for()
            look.look("confirmation of a bulk action")


def test_messages_of_every_level_can_be_read(
    chromium: Browser, live_server: LiveServer, browser: BrowserOf, admin: Member
) -> None:
    client = browser(admin)
    for dark in (False, True):
        with looking(chromium, live_server.url, dark=dark, cookies=lambda: cookies_of(client, live_server.url)) as look:
            request = RequestFactory().get("/")
            storage = CookieStorage(request)
            for level in (messages.INFO, messages.SUCCESS, messages.WARNING, messages.ERROR):
                storage.add(level, "This has happened.")
            answer = HttpResponse()
            storage.update(answer)
            said: Any = {"name": "messages", "value": answer.cookies["messages"].value, "url": live_server.url}
            look.page.context.add_cookies([said])
            look.at("/admin/preferences/")
            assert look.page.get_by_text("This has happened.").count() == 4
            look.look("messages")


@pytest.mark.parametrize("dark", [False, True])
def test_a_value_that_is_shown_once_can_be_read_by_everybody(
    chromium: Browser, live_server: LiveServer, browser: BrowserOf, admin: Member, dark: bool
) -> None:
    client = browser(admin)
    with looking(
        chromium, live_server.url, dark=dark, width=NARROW, cookies=lambda: cookies_of(client, live_server.url)
    ) as look:
        look.at(f"{KEYS}add/")
        look.page.fill("#id_name", "billing-service")
        look.page.get_by_role("button", name="Create and show the value").click()
        look.page.locator("#secret-value").wait_for()
        look.look("the value of a new key")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_stranger_can_read_what_is_shown_to_strangers(
    chromium: Browser, live_server: LiveServer, settings: Any, dark: bool, width: int
) -> None:
    with looking(chromium, live_server.url, dark=dark, width=width) as look:
        look.at("/admin/")
        look.look("sign-in")
        look.page.fill("input[name=username]", "nobody")
        look.page.fill("input[name=password]", "wrong")
        look.page.keyboard.press("Enter")
        look.page.locator(".errornote").first.wait_for()
        look.look("sign-in, refused")
        for _ in range(settings.AXES_FAILURE_LIMIT - 1):
            look.page.fill("input[name=username]", "nobody")
            look.page.fill("input[name=password]", "wrong")
            with look.page.expect_navigation():
                look.page.keyboard.press("Enter")
        expect(look.page.get_by_role("heading", name="Sign-in is locked for now")).to_be_visible()
        look.look("sign-in, locked")
        look.at("/no/such/page/")
        look.look("a page that is not there")


def test_the_documentation_of_the_api_keeps_to_the_policy(
    chromium: Browser, live_server: LiveServer, browser: BrowserOf, admin: Member
) -> None:
    client = browser(admin)
    with looking(chromium, live_server.url, cookies=lambda: cookies_of(client, live_server.url)) as look:
        look.at("/api/docs/")
        look.page.get_by_text("/api/v1/gateway-keys/", exact=True).first.wait_for()
        assert look.page.evaluate("window.kt_violations") == []


def test_axe_is_the_one_that_is_written_down() -> None:
    said = (AXE.parent / "README.md").read_text()
    assert f"sha256-{b64encode(sha256(AXE.read_bytes()).digest()).decode()}" in said

"""Signing in as people do it: with a passkey of the browser's own authenticator, an app's code, a provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from access.models import Member
from access.second_factors import factors_of
from audit.models import AuditEntry
from tests.access.signing_in import code_of
from tests.browser.screens import NARROW, WIDE, Look
from tests.chromium import launch
from tests.factories import PASSWORD
from tests.oidc_provider import running_provider

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def chromium(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    settings.ALLOWED_HOSTS = ["*"]
    # Playwright runs an event loop in this thread; the queries of the test itself are none of its business.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def here(live_server: LiveServer) -> str:
    """The console by a name: an address is no relying party of WebAuthn."""
    return f"http://localhost:{live_server.url.rpartition(':')[2]}"


def open_page(browser: Browser, here: str, *, dark: bool = False, width: int = WIDE) -> tuple[Page, Look]:
    """Return a new browser's page, and what collects what is wrong with each page that it shows."""
    context = browser.new_context(
        base_url=here, color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900}
    )
    look = Look(context.new_page(), here, dark, width)
    look.watch()
    return look.page, look


def give_authenticator(page: Page) -> tuple[Any, str]:
    """Give the browser an authenticator that knows its owner, as a laptop with a fingerprint reader has."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    made = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return devtools, made["authenticatorId"]


def type_password(page: Page, member: Member) -> None:
    page.goto("/admin/login/")
    page.fill("input[name=username]", member.username)
    page.fill("input[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(page: Page) -> None:
    page.goto("/admin/preferences/")
    page.evaluate("document.getElementById('logout-form').submit()")
    expect(page.get_by_text("You are signed out")).to_be_visible()


def last_method() -> str:
    return AuditEntry.objects.filter(action="session.signed_in").latest("id").credential


@pytest.mark.timeout(300)
def test_a_passkey_is_added_and_signs_in_by_itself(chromium: Browser, here: str, admin: Member, settings: Any) -> None:
    settings.KEEPTRUSTS_REQUIRE_MFA = frozenset({"admin"})
    page, look = open_page(chromium, here)
    give_authenticator(page)
    type_password(page, admin)
    expect(page.get_by_text("Your role needs a second factor.").first).to_be_visible()
    look.look("account, with a factor owed")
    page.get_by_role("link", name="Add a passkey").click()
    look.look("a new passkey")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_text("The passkey is added.")).to_be_visible()
    page.get_by_role("button", name="Make recovery codes").click()
    expect(page.locator("#secret-value")).to_contain_text("-")
    look.look("recovery codes")

    sign_out(page)
    page.goto("/admin/login/?next=/admin/access/member/")
    look.look("sign-in with a passkey")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(lambda url: "/login/" not in url)
    assert last_method() == "passkey"

    sign_out(page)
    type_password(page, admin)
    expect(page.get_by_role("heading", name="Show your second factor")).to_be_visible()
    look.look("second factor")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: "/login/" not in url)
    assert last_method() == "password + passkey"

    page.goto("/admin/confirm/?next=/admin/preferences/")
    look.look("confirm")
    page.get_by_role("button", name="Confirm with a passkey").click()
    page.wait_for_url(lambda url: "/confirm/" not in url)
    assert any(entry.detail.get("method") == "passkey" for entry in AuditEntry.objects.order_by("-id")[:3])
    assert look.problems == []


@pytest.mark.timeout(300)
def test_a_passkey_of_a_member_who_removed_it_signs_nobody_in(chromium: Browser, here: str, manager: Member) -> None:
    page, look = open_page(chromium, here, dark=True, width=NARROW)
    give_authenticator(page)
    type_password(page, manager)
    page.goto("/admin/account/passkeys/add/")
    page.get_by_label("Name").fill("phone")
    page.get_by_role("button", name="Make the passkey").click()
    page.get_by_role("button", name="Remove phone").click()
    expect(page.get_by_text("“phone” is removed")).to_be_visible()
    assert factors_of(manager) == []
    sign_out(page)
    page.goto("/admin/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("The passkey was not accepted.")).to_be_visible()
    assert AuditEntry.objects.latest("id").action == "session.sign_in_failed"
    assert look.problems == []


@pytest.mark.timeout(300)
def test_an_app_is_added_and_a_recovery_code_stands_in_once(chromium: Browser, here: str, manager: Member) -> None:
    page, look = open_page(chromium, here, dark=True, width=NARROW)
    type_password(page, manager)
    page.goto("/admin/account/")
    page.get_by_role("link", name="Add an authenticator app").click()
    look.look("a new authenticator app")
    expect(page.locator(".kt-qr svg")).to_be_visible()
    secret = page.locator("code.kt-mono").inner_text().replace(" ", "")
    page.get_by_label("Code that the app shows now").fill(code_of(secret))
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Make recovery codes").click()
    code = page.locator("#secret-value").inner_text().split()[0]
    page.get_by_role("link", name="Done, I have stored them").click()
    expect(page.get_by_text("10 of them are unused.")).to_be_visible()
    look.look("account")

    for accepted in (True, False):
        sign_out(page)
        type_password(page, manager)
        page.get_by_label("Code").fill(code)
        page.get_by_role("button", name="Continue").click()
        if accepted:
            page.wait_for_url(lambda url: "/login/" not in url)
        else:
            expect(page.get_by_text("This code is wrong, or was used before.")).to_be_visible()
            look.look("second factor, refused")
            break
    assert last_method() == "password + recovery code"
    assert look.problems == []


@pytest.mark.timeout(300)
def test_somebody_signs_in_through_the_provider(chromium: Browser, here: str, db: None, settings: Any) -> None:
    people: dict[str, dict[str, Any]] = {
        "max": {"preferred_username": "max", "groups": ["developers"]},
        "sam": {"groups": ["football"]},
    }
    with running_provider(people) as provider:
        settings.KEEPTRUSTS_OIDC = provider.settings()
        page, look = open_page(chromium, here)
        page.goto("/admin/login/")
        look.look("sign-in with a provider")
        page.get_by_role("link", name="Sign in with Example SSO").click()
        page.get_by_role("button", name="Authorize as max").click()
        page.wait_for_url(lambda url: "/login/" not in url)
        assert last_method() == "oidc:Example SSO"
        assert Member.objects.get().role == "manager"

        other, _ = open_page(chromium, here, width=NARROW)
        other.goto("/admin/login/oidc/")
        other.get_by_role("button", name="Authorize as sam").click()
        expect(other.get_by_role("heading", name="You may not sign in here")).to_be_visible()
    ours = [problem for problem in look.problems if provider.issuer not in problem]
    assert ours == []

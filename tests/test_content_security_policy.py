"""What pages may load and do: one strict policy on everything that a browser shows."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from django.conf import settings
from django.test import Client

from access.models import Member
from tests.factories import make_key
from tests.fixtures import BrowserOf

pytestmark = pytest.mark.django_db

POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'none'",
    "object-src": "'none'",
    "frame-src": "'none'",
    "worker-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
PAGES: Final = ["/admin/", "/admin/keys/gatewaykey/", "/admin/keys/gatewaykey/add/", "/admin/preferences/"]
# What is answered to anybody: sign-in, errors, the documentation of the API, and the API itself.
OPEN: Final = ["/admin/login/", "/no/such/page/", "/api/docs/", "/api/schema/", "/api/v1/gateway-keys/"]


def policy_of(answer: Any) -> dict[str, str]:
    directives = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: words for name, _, words in directives if name}


@pytest.mark.parametrize("address", OPEN)
def test_pages_for_strangers_have_the_policy(client: Client, address: str) -> None:
    assert policy_of(client.get(address)) == POLICY


@pytest.mark.parametrize("address", PAGES)
def test_pages_of_the_console_have_the_policy(browser: BrowserOf, admin: Member, address: str) -> None:
    assert policy_of(browser(admin).get(address)) == POLICY


def test_refusals_and_errors_have_the_policy(browser: BrowserOf, admin: Member, auditor: Member) -> None:
    refused = browser(auditor).get("/admin/keys/gatewaykey/add/")
    absent = browser(admin).get("/admin/keys/gatewaykey/00000000-0000-0000-0000-000000000000/change/")
    bad = browser(admin).post("/admin/keys/gatewaykey/", {"action": "revoke_selected", "_selected_action": "x"})
    unsent = Client(enforce_csrf_checks=True).post("/admin/login/")
    assert [answer.status_code for answer in (refused, absent, bad, unsent)] == [403, 404, 400, 403]
    assert [policy_of(answer) for answer in (refused, absent, bad, unsent)] == [POLICY] * 4


def test_a_page_that_fails_has_the_policy(browser: BrowserOf, admin: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    client = browser(admin)
    client.raise_request_exception = False
    monkeypatch.setattr("keeptrusts.dashboard.dashboard", None)
    monkeypatch.setitem(settings.UNFOLD, "DASHBOARD_CALLBACK", "no.such.module")
    answer = client.get("/admin/")
    assert (answer.status_code, policy_of(answer)) == (500, POLICY)


def test_no_page_has_a_script_or_a_handler_in_it(browser: BrowserOf, admin: Member) -> None:
    key = make_key().key
    client = browser(admin)
    for address in (*PAGES, "/admin/login/", f"/admin/keys/gatewaykey/{key.pk}/change/"):
        page = client.get(address).content.decode()
        scripts = re.findall(r"<script\b([^>]*)>", page)
        assert [tag for tag in scripts if "src=" not in tag and "application/json" not in tag] == [], address
        assert re.findall(r"""\son[a-z]+\s*=\s*["'][^"']*""", page) == [], address
        assert re.findall(r"""\b(?:src|action)=["']?(?:https?:)?//""", page) == [], address

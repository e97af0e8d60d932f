"""A real browser before a real server. Whatever the browser complains of fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from access.models import Member
from tests.chromium import launch
from tests.factories import PASSWORD

# A name that is no localhost: to the browser this is plain http, without the powers of a secure context.
HOST = "console.test"

type Visit = Callable[[Member], Page]


@pytest.fixture
def visit(live_server: LiveServer, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """Give a member a browser of their own in which they have signed in, by hand, over plain http."""
    settings.ALLOWED_HOSTS = ["*"]
    # Playwright runs an event loop in this thread; the queries of the test itself are none of its business.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    problems: list[str] = []
    address = f"http://{HOST}:{live_server.url.rpartition(':')[2]}"
    with sync_playwright() as playwright:
        browser = launch(playwright, f"--host-resolver-rules=MAP {HOST} 127.0.0.1")

        def open_for(member: Member) -> Page:
            page = browser.new_context(base_url=address).new_page()
            page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto("/admin/")
            page.fill("input[name=username]", member.username)
            page.fill("input[name=password]", PASSWORD)
            page.click("button[type=submit]")
            page.wait_for_url("**/admin/")
            return page

        yield open_for
        browser.close()
    assert problems == []

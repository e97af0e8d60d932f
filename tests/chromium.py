"""Debian's Chromium, headless, as root as well, and silent towards the network."""

from __future__ import annotations

from playwright.sync_api import Browser, Playwright

from tests.programs import find_program

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def launch(playwright: Playwright, *more: str) -> Browser:
    """Start the browser with a fresh profile. more: flags. Errors: AssertionError where it is not installed."""
    program = find_program("chromium")
    assert program, "Chromium is not installed: apt-get install chromium"
    return playwright.chromium.launch(executable_path=program, args=[*FLAGS, *more])

"""The pictures in the README and docs/, made from the demo so that they can be made again: script/screenshots.

Starts a console with demonstration data in a folder of its own, and drives Debian's Chromium through it. A picture is
a row of SHOTS: where it is taken, and what is done on the page before.
"""

from __future__ import annotations

import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from playwright.sync_api import Error, Page, sync_playwright

from tests.chromium import launch
from tests.processes import ROOT, clean_environment, running
from tests.servers import free_port

IMAGES: Final = ROOT / "docs" / "images"
KEYS: Final = "/admin/keys/gatewaykey/"
# A busy key that is being rotated: the old value is still in use.
ROTATING: Final = "feature-store"


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture, docs/images/<name>.png. do: what a person does before it is taken. height: of the window."""

    name: str
    address: str
    do: Callable[[Page], None] | None = None
    height: int = 900
    width: int = 1440
    dark: bool = False


def open_key(page: Page) -> None:
    """From the list to the page of the key that is being rotated."""
    page.locator("#result_list").get_by_role("link", name=ROTATING).first.click()
    page.get_by_role("heading", name="Versions").wait_for()


def create_key(page: Page) -> None:
    """Make a key, so that its value is shown. The demo and every value in it are gone when the pictures are made."""
    page.get_by_label("Name").first.fill("support-chatbot")
    page.get_by_role("button", name="Create and show the value").click()
    page.locator("#secret-value").wait_for()


def open_rotate(page: Page) -> None:
    page.get_by_role("button", name=f"Actions: {ROTATING}").click()
    page.get_by_role("menuitem", name="Rotate").click()
    page.locator("#dialog button[type=submit]").wait_for()


def find_by_hint(page: Page) -> None:
    """Look for a key by what of its value is known to everybody who may see it: its hint."""
    page.locator("#content input:visible, #content textarea:visible").first.fill(_found["hint"])
    page.locator("#content button[type=submit]:visible").first.click()
    page.wait_for_load_state("networkidle")


def first_row(page: Page) -> None:
    page.locator("#result_list tbody tr a").first.click()
    page.wait_for_load_state("networkidle")


# The hint of the key that is looked for; known only when the demo runs.
_found: dict[str, str] = {}

SHOTS: Final = [
    Shot("dashboard", "/admin/"),
    Shot("gateway-keys", KEYS),
    Shot("audit-log", "/admin/audit/auditentry/"),
    Shot("gateway-key", f"{KEYS}?q={ROTATING}", open_key, height=1280),
    # The eight jobs of docs/console.md, in its order.
    Shot("console/create", f"{KEYS}add/"),
    Shot("console/create-value", f"{KEYS}add/", create_key, height=1100),
    Shot("console/rotate", f"{KEYS}?q={ROTATING}", open_rotate),
    Shot("console/cut-over", f"{KEYS}?q={ROTATING}", open_key, height=1400),
    Shot("console/find", "/admin/find-a-key/", find_by_hint),
    Shot("console/hygiene", "/admin/hygiene/", height=1200),
    Shot("console/why-refused", "/admin/why-refused/"),
    Shot("console/dashboard", "/admin/", height=1200),
    Shot("console/gateway", "/admin/gateways/gateway/", first_row, height=1200),
    Shot("console/audit", "/admin/audit/auditentry/"),
    Shot("console/audit-entry", "/admin/audit/auditentry/", first_row),
    Shot("console/verify", "/admin/audit/auditentry/verify/"),
    Shot("console/members", "/admin/access/member/"),
    Shot("console/member", "/admin/access/member/", first_row),
    Shot("console/dark", KEYS, dark=True),
    Shot("console/narrow", KEYS, width=390),
]


def main(names: list[str]) -> int:
    """Write the pictures of these names, or every picture; say which could not be taken, and fail if there is one."""
    port, password = free_port(), secrets.token_urlsafe(20)
    shots = [shot for shot in SHOTS if not names or shot.name in names]
    missed = []
    with tempfile.TemporaryDirectory(prefix="keeptrusts-screenshots-") as folder:
        environment = clean_environment(KEEPTRUSTS_DATA_DIR=folder, PORT=str(port), KEEPTRUSTS_ADMIN_PASSWORD=password)
        command = [sys.executable, "manage.py", "up", "--prepare", "--demo"]
        with running(command, environment) as console, sync_playwright() as playwright:
            console.says("Keeptrusts is ready", 600)
            browser = launch(playwright)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(30_000)
            base = f"http://127.0.0.1:{port}"
            _sign_in(page, base, password)
            missed = [shot.name for shot in shots if not _taken(page, base, shot)]
            browser.close()
            console.process.send_signal(signal.SIGTERM)
            console.ends()
    print("\n".join(f"not taken: {name}" for name in missed), file=sys.stderr)
    return 1 if missed else 0


def _sign_in(page: Page, base: str, password: str) -> None:
    page.goto(f"{base}/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    page.locator("#nav-sidebar").wait_for(state="attached")
    page.goto(f"{base}{KEYS}?q={ROTATING}")
    _found["hint"] = re.findall(r"kt_gk_[a-z0-9]{4}", page.locator("#content").inner_text())[0]


def _taken(page: Page, base: str, shot: Shot) -> bool:
    """Take one picture; False, with the reason printed, where its page is not there or does not do what is told."""
    page.emulate_media(color_scheme="dark" if shot.dark else "light")
    page.set_viewport_size({"width": shot.width, "height": shot.height})
    answer = page.goto(base + shot.address)
    if not answer or not answer.ok:
        print(f"{shot.address}: {answer and answer.status}", file=sys.stderr)
        return False
    page.wait_for_load_state("networkidle")
    try:
        if shot.do:
            shot.do(page)
    except Error as error:
        print(f"{shot.name}: {error}", file=sys.stderr)
        return False
    page.wait_for_timeout(400)
    path = IMAGES / f"{shot.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    print(path.relative_to(ROOT))
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

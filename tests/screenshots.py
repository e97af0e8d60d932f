"""The pictures in the README and docs/, made from the demo so that they can be made again: script/screenshots.

Starts a console with demonstration data in a folder of its own, and drives Debian's Chromium through it.
"""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile

from playwright.sync_api import Page, sync_playwright

from tests.chromium import launch
from tests.processes import ROOT, clean_environment, running
from tests.servers import free_port

IMAGES = ROOT / "docs" / "images"
PICTURES = {
    "dashboard": "/admin/",
    "gateway-keys": "/admin/keys/gatewaykey/",
    "audit-log": "/admin/audit/auditentry/",
}


def main() -> int:
    """Write every picture to docs/images/."""
    IMAGES.mkdir(exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(20)
    with tempfile.TemporaryDirectory(prefix="keeptrusts-screenshots-") as folder:
        environment = clean_environment(KEEPTRUSTS_DATA_DIR=folder, PORT=str(port), KEEPTRUSTS_ADMIN_PASSWORD=password)
        command = [sys.executable, "manage.py", "up", "--prepare", "--demo"]
        with running(command, environment) as console, sync_playwright() as playwright:
            console.says("Keeptrusts is ready", 180)
            browser = launch(playwright)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            _take(page, f"http://127.0.0.1:{port}", password)
            browser.close()
            console.process.send_signal(signal.SIGTERM)
            console.ends()
    return 0


def _take(page: Page, base: str, password: str) -> None:
    page.goto(f"{base}/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_load_state("networkidle")
    for name, path in PICTURES.items():
        _shoot(page, base + path, name)
    # A busy key that is being rotated, down to its versions: the old value is still in use.
    page.goto(f"{base}/admin/keys/gatewaykey/?q=feature-store")
    page.get_by_role("link", name="feature-store").click()
    page.get_by_role("heading", name="Versions").wait_for()
    page.set_viewport_size({"width": 1440, "height": 1280})
    _shoot(page, page.url, "gateway-key")


def _shoot(page: Page, url: str, name: str) -> None:
    answer = page.goto(url)
    assert answer
    assert answer.ok, f"{url}: {answer.status}"
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    sys.exit(main())

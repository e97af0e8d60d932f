"""What must be true of every screen of the console: said by axe-core, and by the browser itself.

axe-core is vendored: what PyPI has of it is versions behind, and the suite needs no npm this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Response

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDE, NARROW = 1440, 390

# Serious and critical alone: what keeps somebody from doing the job.
_AXE_RUN = """async () => {
    const found = await axe.run(document, {resultTypes: ["violations"]});
    return found.violations.filter((rule) => ["serious", "critical"].includes(rule.impact)).flatMap(
        (rule) => rule.nodes.map((node) => `${rule.id}: ${node.html.replace(/\\s+/g, " ").slice(0, 120)} `
            + `(${node.any.concat(node.all, node.none).map((check) => check.message).join("; ").slice(0, 200)})`));
}"""
# A dialog is a piece of a page: opened on the page below it, as its button does.
_OPEN_DIALOG = """async (address) => {
    document.querySelector("#dialog")?.remove();
    await htmx.ajax("GET", address, {target: "#modal-content", select: "#dialog"});
    Alpine.$data(document.body).openModal = true;
}"""
# The choice of theme in the member's menu; read again by unfold's own binding.
_TURN = "(theme) => { Alpine.$data(document.documentElement).adminTheme = theme; }"
_TURNED = "(dark) => document.documentElement.classList.contains('dark') === dark"
_LISTEN = """
window.kt_violations = [];
document.addEventListener("securitypolicyviolation",
    (event) => window.kt_violations.push(`${event.effectiveDirective}: ${event.blockedURI}`));
"""
_STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"


@dataclass
class Look:
    """A browser of one member, or of a stranger, in one theme and one width, that collects what is wrong."""

    page: Page
    base: str
    dark: bool
    width: int
    problems: list[str] = field(default_factory=list)
    # Where the dialogs that are looked at were opened.
    place: str = ""

    def at(self, address: str) -> Response:
        """Go there, without looking yet."""
        answer = self.page.goto(self.base + address)
        assert answer
        self.place = ""
        return answer

    def turn(self, *, dark: bool, width: int) -> None:
        """Show the page that stands in this theme and width, as its reader would by choice and by dragging an edge."""
        self.dark, self.width = dark, width
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.evaluate(_TURN, "dark" if dark else "light")
        self.page.wait_for_function(_TURNED, arg=dark)

    def look(self, name: str, expected: Sequence[int] = (200,)) -> None:
        """Collect what is wrong with the page as it stands now."""
        page = self.page
        page.wait_for_load_state("load")
        page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")
        page.add_style_tag(content=_STILL)
        if page.evaluate("typeof axe") == "undefined":
            page.evaluate(AXE.read_text())
        for problem in page.evaluate(_AXE_RUN):
            self._complain(name, problem)
        for problem in page.evaluate("window.kt_violations.splice(0)"):
            self._complain(name, f"Content-Security-Policy: {problem}")
        if not page.evaluate("document.documentElement.lang"):
            self._complain(name, "no language")
        title = page.title().strip()
        if not title or title.startswith("|"):
            self._complain(name, "no title")
        if "Site administration" in title + page.content():
            self._complain(name, "says Site administration")
        if "{#" in page.inner_text("body"):
            self._complain(name, "shows what only the template's reader should see")
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > self.width:
            self._complain(name, f"is {wide} pixels wide")

    def dialog(self, address: str, place: str) -> None:
        """Open the dialog of `address` at `place`, without looking yet; the page is kept for the next one there."""
        if self.place != place:
            self.at(place)
            self.page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")
            self.place = place
        self.page.evaluate(_OPEN_DIALOG, self.base + address)
        self.page.locator("#dialog").wait_for()

    def _complain(self, name: str, problem: str) -> None:
        self.problems.append(f"{name} ({'dark' if self.dark else 'light'}, {self.width}): {problem}")

    def watch(self) -> None:
        """Collect what the browser says by itself: errors, and requests that leave for somewhere else."""
        host = urlsplit(self.base).netloc
        self.page.add_init_script(_LISTEN)
        self.page.on("pageerror", lambda error: self._complain(self.page.url, str(error)))
        self.page.on("console", self._console)
        self.page.on(
            "request",
            lambda request: (
                self._complain(self.page.url, f"asks {request.url}")
                if urlsplit(request.url).scheme in {"http", "https", "ws", "wss"}
                and urlsplit(request.url).netloc != host
                else None
            ),
        )

    def _console(self, said: Any) -> None:
        # A page that is an error by itself is said to have failed to load, which it should.
        if said.type in {"error", "warning"} and "the server responded with a status of" not in said.text:
            self._complain(self.page.url, said.text)


@contextmanager
def looking(
    browser: Browser, base: str, *, dark: bool = False, width: int = WIDE, cookies: Callable[[], Any] | None = None
) -> Iterator[Look]:
    """Give a `Look` at `base`, signed in with `cookies`; what it has found wrong fails the test at the end."""
    context: BrowserContext = browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    if cookies:
        context.add_cookies(cookies())
    look = Look(context.new_page(), base, dark, width)
    look.watch()
    yield look
    context.close()
    assert look.problems == [], "\n" + "\n".join(sorted(set(look.problems)))

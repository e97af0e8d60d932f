"""The forms of a page as a browser would send them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any


class _Fields(HTMLParser):
    """Collects what every POST form of a page would send, but the one that signs out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._wanted = False
        self._select = self._text = ""
        self._first: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self._wanted = given.get("method", "").lower() == "post" and "logout" not in given.get("action", "")
        elif given.get("form"):
            pass  # it belongs to a form elsewhere on the page, and is a button here
        elif tag == "select":
            self._select = name
            self._first = None if "multiple" not in given else ""
        elif tag == "option":
            if "selected" in given:
                self._add(self._select, given.get("value", ""))
            elif self._first is None:
                self._first = given.get("value", "")
        elif tag == "textarea":
            self._text = name
        elif tag == "input":
            kind = given.get("type", "text")
            if kind not in {"submit", "button", "file", "checkbox", "radio"} or "checked" in given:
                self._add(name, given.get("value", "on" if kind == "checkbox" else ""))

    def handle_data(self, data: str) -> None:
        if self._text:
            self._add(self._text, data.strip())
            self._text = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._wanted = False
        elif tag == "select" and self._first and self._select not in self.found:
            self._add(self._select, self._first)  # where nothing is chosen, a browser sends the first
        elif tag == "textarea" and self._text:
            self._add(self._text, "")
            self._text = ""

    def _add(self, name: str, value: str) -> None:
        if self._wanted and name:
            self.found.setdefault(name, []).append(value)


def filled(page: Any, **given: Any) -> dict[str, Any]:
    """Return what the forms of this answer send, with `given` in place of what stands in them."""
    fields = _Fields()
    fields.feed(page.content.decode())
    return {**fields.found, **given}

"""How the console looks: settings of the admin theme. Callables are named, and loaded at the first request."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static


def stylesheet(request: HttpRequest) -> str:
    return static("keeptrusts/console.css")


def script(request: HttpRequest) -> str:
    return static("keeptrusts/console.js")


UNFOLD: dict[str, Any] = {
    "STYLES": [stylesheet],
    "SCRIPTS": [script],
    # The audit log is the history.
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
}

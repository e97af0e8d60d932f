"""How the console looks and where it leads: django-unfold's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

from keeptrusts.navigation import settings_tabs, sidebar


def _file(path: str) -> Callable[[HttpRequest], str]:
    """The address of a static file, asked for when a page is made: before, there is no manifest to ask."""
    return lambda request: static(path)


STYLES = (
    "console",
    "screens",
    "usage",
    "hygiene",
    "policy",
    "leak",
    "giving",
    "team",
    "people",
    "reports",
    "overtaken",
    "accessibility",
)
SCRIPTS = (
    "console",
    "usage_charts",
    "hygiene",
    "giving",
    "team",
    "passkeys",
    "reports",
    "accessibility",
    "navigation",
)

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Keeptrusts",
    "SITE_HEADER": "Keeptrusts",
    "SITE_SUBHEADER": "Gateway keys",
    "SITE_ICON": _file("keeptrusts/icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _file("keeptrusts/icon.svg")}],
    # There is no other site to go to, and the audit log is the history.
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": False,
    "STYLES": [_file(f"keeptrusts/{name}.css") for name in STYLES],
    "SCRIPTS": [_file(f"keeptrusts/{name}.js") for name in SCRIPTS],
    "DASHBOARD_CALLBACK": "keeptrusts.dashboard.dashboard",
    "ACCOUNT": {
        "navigation": [
            {"title": "Preferences", "link": reverse_lazy("admin:preferences")},
            {"title": "Sign-in and sessions", "link": reverse_lazy("admin:account")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": sidebar},
    "TABS": settings_tabs,
    "COLORS": {
        # Tailwind's teal, darker from 600 on, so that white text on a button has a contrast of 5.5 to 1.
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(51.1% .096 186.391)",
            "700": "oklch(43.7% .078 188.216)",
            "800": "oklch(38.6% .063 188.416)",
            "900": "oklch(32% .055 190)",
            "950": "oklch(27.7% .046 192.524)",
        },
    },
}

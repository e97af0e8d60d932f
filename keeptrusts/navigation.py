"""The sidebar and the tabs of "Settings": one list of screens, each shown only to who may see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse


@dataclass(frozen=True, slots=True)
class Screen:
    """One entry. permission: what a member needs in order to see it; None = every member."""

    title: str
    icon: str
    route: str
    permission: str | None = None


DASHBOARD = Screen("Dashboard", "dashboard", "admin:index")
# In the sidebar alone: it is no list, so it has no tabs to be one of.
KEYS = Screen("Gateway Keys", "key", "admin:keys_gatewaykey_changelist", "keys.view_gatewaykey")
HYGIENE = Screen("Hygiene", "cleaning_services", "admin:hygiene", "keys.view_gatewaykey")
FIND_A_KEY = Screen("Find a Key", "search", "admin:find_a_key", "keys.view_gatewaykey")
GROUPS = Screen("Consumer Groups", "groups", "admin:keys_consumergroup_changelist", "keys.view_consumergroup")
GATEWAYS = Screen("Gateways", "router", "admin:gateways_gateway_changelist", "gateways.view_gateway")
POLICY = Screen("Policy", "policy", "admin:policy", "keys.view_installationpolicy")
# Lists, which are each other's tabs; the other screens of "Settings" are no lists.
TABS = (KEYS, GROUPS, GATEWAYS)
SETTINGS = (KEYS, HYGIENE, GROUPS, POLICY, GATEWAYS, FIND_A_KEY)
EVIDENCE = (
    Screen("Usage Events", "monitoring", "admin:usage_usageevent_changelist", "usage.view_usageevent"),
    Screen("Why Refused?", "block", "admin:why_refused", "usage.view_usageevent"),
    Screen("Reports", "lab_profile", "admin:reports", "keys.review_gatewaykey"),
    Screen("Audit Log", "verified_user", "admin:audit_auditentry_changelist", "audit.view_auditentry"),
)
NOTICES = (
    Screen("Webhooks", "webhook", "admin:webhooks_webhookendpoint_changelist", "webhooks.view_webhookendpoint"),
    Screen("Deliveries", "outbox", "admin:webhooks_delivery_changelist", "webhooks.view_delivery"),
)
TEAM = (
    Screen("Members", "group", "admin:access_member_changelist", "access.view_member"),
    Screen("Access Keys", "vpn_key", "admin:access_accesskey_changelist", "access.view_accesskey"),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups."""
    groups = [
        ("Overview", (DASHBOARD,)),
        ("Settings", SETTINGS),
        ("Evidence", EVIDENCE),
        ("Notices", NOTICES),
        ("Team", TEAM),
    ]
    return [{"title": title, "items": [_item(screen) for screen in screens]} for title, screens in groups]


def settings_tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the tabs that the lists under "Settings" share."""
    models = ["keys.gatewaykey", "keys.consumergroup", "gateways.gateway"]
    return [{"models": models, "items": [_item(screen) for screen in TABS]}]


def _item(screen: Screen) -> dict[str, Any]:
    return {
        "title": screen.title,
        "icon": screen.icon,
        "link": reverse(screen.route),
        "permission": _permission(screen),
        # Said here for every item: unfold's own guess marks a second one where a link is a tab too.
        "active": _active(screen),
    }


def _permission(screen: Screen) -> Callable[[HttpRequest], bool]:
    def may_see(request: HttpRequest) -> bool:
        # The sign-in page is made of the same parts, for nobody in particular yet.
        member = request.user
        return member.is_authenticated and (screen.permission is None or member.may(screen.permission))

    return may_see


def _active(screen: Screen) -> Callable[[HttpRequest], bool]:
    def is_here(request: HttpRequest) -> bool:
        link = reverse(screen.route)
        return request.path == link if screen is DASHBOARD else request.path.startswith(link)

    return is_here

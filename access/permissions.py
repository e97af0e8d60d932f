"""The API asks the same rule book as everything else (access/rules.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from access.actors import caller, request_actor
from access.refusals import Forbidden
from access.throttles import count_stranger

# While rest_framework.views is being made, it asks for this module.
if TYPE_CHECKING:
    from rest_framework.views import APIView

# The rule book's verb for each action of a view; an action that is not here is its own verb.
VERBS: Final = {
    "list": "view",
    "retrieve": "view",
    "create": "add",
    "partial_update": "change",
    "metadata": "view",
    "bulk_revoke": "revoke",
    "review_csv": "review",
    "policy_preview": "change",
    "checkpoint": "verify",
    "evidence": "export",
    "bulk_rotate": "rotate",
    "bulk_edit": "change",
    "find": "view",
    "invite_again": "change",
    "withdraw_invitation": "change",
    "take_out": "change",
    "let_in": "change",
}


class RolePermission(BasePermission):
    """Admits members alone, each to what their role may do; raises Forbidden, naming the object where there is one.

    Without credential: 401. Objects a member may not see: 404, also for what their role never does to any of them.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            # They get no further, and DRF counts only who does.
            count_stranger(request)
            return False
        # For houses that cannot import `access` (design §10).
        request._request.actor = request_actor(request)  # type: ignore[attr-defined]  # ours
        permission = permission_of(view)
        if permission is None or caller(request).may(permission):
            return True
        # Who is refused here gets no further, either: and each attempt writes an entry: it is counted first.
        view.check_throttles(request)
        obj = view.get_object() if getattr(view, "detail", False) else None  # type: ignore[attr-defined]  # has one
        raise Forbidden(permission, obj)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        permission = permission_of(view)
        if permission is not None and not caller(request).may(permission, obj):
            raise Forbidden(permission, obj)
        return True


def permission_of(view: APIView) -> str | None:
    """Return what the rule book calls what is asked of `view`; None for what any member may, and for no action."""
    queryset = getattr(view, "queryset", None)
    # A view without actions only shows; a method without an action will be answered 405.
    action = getattr(view, "action", "retrieve")
    # What is about no model's rows says its permission itself.
    if named := getattr(view, "named_permissions", {}).get(action):
        return str(named)
    if queryset is None or action is None:
        return None
    meta = queryset.model._meta
    return f"{meta.app_label}.{VERBS.get(action, action)}_{meta.model_name}"

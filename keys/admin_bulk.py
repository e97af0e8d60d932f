"""What the console does with several selected gateway keys: a bulk fix, or a CSV file of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from django.contrib import messages
from django.contrib.admin import action
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from access.actors import request_actor
from access.console import ConsoleAdmin
from audit import clock
from audit.actions import AuditAction
from audit.exports import filters_of, record_export
from audit.recording import Subject
from keys import bulk
from keys.csv_export import csv_of
from keys.hygiene_pages import FIXES, RELATED, preview_page
from keys.key_lists import keys_of_page
from keys.models import GatewayKey

# More than this is for the export of the whole list, which sends row by row; here a file is made in memory.
MOST_EXPORTED: Final = 20_000
JOINED: Final = ("consumer_group", "created_by", "revoked_by", "owner", "metrics")


def _fixes_selected(slug: str, description: str) -> Callable[..., HttpResponse | None]:
    """Return the bulk action that shows, for the selected keys, the preview of a fix; confirmed is it there."""
    fix = FIXES[slug]

    def fix_selected(
        screen: ConsoleAdmin[GatewayKey], request: HttpRequest, queryset: QuerySet[GatewayKey]
    ) -> HttpResponse | None:
        # One more than allowed is enough to know that there are too many.
        found = queryset.select_related(None).prefetch_related(*RELATED).order_by("name", "id")
        keys = keys_of_page(found, 0, bulk.MOST_AT_ONCE + 1)
        if len(keys) > bulk.MOST_AT_ONCE:
            messages.error(request, f"At most {bulk.MOST_AT_ONCE:,} keys can be changed at once. Select fewer.")
            return None
        return preview_page(request, fix, keys, back=request.get_full_path())

    fix_selected.__name__ = f"{slug.replace('-', '_')}_selected"
    return cast(
        "Callable[..., HttpResponse | None]", action(permissions=[fix.verb], description=description)(fix_selected)
    )


BULK_FIXES: Final = tuple(
    _fixes_selected(slug, description)
    for slug, description in (
        ("set-expiry", "Set expiry of selected …"),
        ("owner", "Change owner of selected …"),
        ("scope", "Scope selected to a group …"),
        ("end-grace", "End grace of selected …"),
        ("disable", "Disable selected …"),
        ("revoke", "Revoke selected …"),
    )
)


@action(permissions=["export"], description="Export selected (CSV)")
def export_selected(
    screen: ConsoleAdmin[GatewayKey], request: HttpRequest, queryset: QuerySet[GatewayKey]
) -> HttpResponse | None:
    """Give out the metadata of the keys as CSV; the audit log knows before the file leaves."""
    rows = queryset.count()
    if rows > MOST_EXPORTED:
        message = f"At most {MOST_EXPORTED:,} keys fit into one file here. “Export all” has no such limit."
        messages.error(request, message)
        return None
    content, rows = csv_of(queryset.select_related(*JOINED))
    record_export(
        action=AuditAction.KEY_EXPORTED,
        actor=request_actor(request),
        about=Subject("gateway_key"),
        filters=filters_of(request.GET),
        rows=rows,
    )
    filename = f"gateway-keys-{clock.now():%Y-%m-%d}.csv"
    return HttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )

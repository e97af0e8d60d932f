"""What the console does with several gateway keys at once: revoke them, or write them to a CSV file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, cast
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin import action
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from access.actors import request_actor
from access.console import ConsoleAdmin, add_errors
from access.models import Member
from access.refusals import Forbidden, record_refusal
from audit import clock
from audit.actions import AuditAction
from audit.exports import filters_of, record_export
from keys import lifecycle
from keys.csv_export import csv_of
from keys.models import GatewayKey
from keys.offers import why_not
from keys.visibility import manages_all

# More than this is for the API, which sends row by row; here a file is made in memory.
MOST_EXPORTED: Final = 20_000
JOINED: Final = ("consumer_group", "created_by", "revoked_by", "metrics")


class BulkRevokeForm(forms.Form):
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "Kept with every key and in the audit log"}),
    )


@action(permissions=["revoke"], description="Revoke selected …")
def revoke_selected(
    screen: ConsoleAdmin[GatewayKey], request: HttpRequest, queryset: QuerySet[GatewayKey]
) -> HttpResponse | None:
    """Show what will be hit; then, when that was confirmed, revoke exactly what was shown."""
    confirmed = "confirmed" in request.POST
    if confirmed:
        # What was shown, not what the list's filters match by now.
        queryset = screen.get_queryset(request).filter(pk__in=_ids(request.POST.getlist(ACTION_CHECKBOX_NAME)))
    form = BulkRevokeForm(request.POST if confirmed else None)
    if confirmed and form.is_valid():
        try:
            _revoke(request, [key.pk for key in queryset], form.cleaned_data["reason"])
            return None
        except ValidationError as error:
            add_errors(form, error)
    # One more than allowed is enough to know that there are too many.
    keys = list(queryset.select_related(*JOINED).order_by("name", "id")[: lifecycle.MOST_AT_ONCE + 1])
    if len(keys) > lifecycle.MOST_AT_ONCE:
        messages.error(request, f"At most {lifecycle.MOST_AT_ONCE:,} keys can be revoked at once. Select fewer.")
        return None
    revocable, skipped = _sort_out(cast(Member, request.user), keys)
    context = {
        **screen.admin_site.each_context(request),
        "title": "Revoke selected gateway keys",
        "opts": screen.opts,
        "form": form,
        "revocable": revocable,
        "skipped": skipped,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "keys/revoke_selected.html", context)


@action(permissions=["export"], description="Export selected (CSV)")
def export_selected(
    screen: ConsoleAdmin[GatewayKey], request: HttpRequest, queryset: QuerySet[GatewayKey]
) -> HttpResponse | None:
    """Give out the metadata of the keys as CSV; the audit log knows before the file leaves."""
    rows = queryset.count()
    if rows > MOST_EXPORTED:
        message = f"At most {MOST_EXPORTED:,} keys fit into one file here. The API's export has no such limit."
        messages.error(request, message)
        return None
    content, rows = csv_of(queryset.select_related(*JOINED))
    record_export(
        action=AuditAction.KEY_EXPORTED,
        actor=request_actor(request),
        object_type="gateway_key",
        filters=filters_of(request.GET),
        rows=rows,
    )
    filename = f"gateway-keys-{clock.now():%Y-%m-%d}.csv"
    return HttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )


def _revoke(request: HttpRequest, key_ids: list[UUID], reason: str) -> None:
    actor = request_actor(request)
    results = lifecycle.revoke_many(actor=actor, key_ids=key_ids, reason=reason)
    outcomes = Counter(type(result.error) for result in results)
    for result in results:
        if isinstance(result.error, Forbidden):
            record_refusal(actor, result.error)
    if revoked := outcomes.pop(type(None), 0):
        change = next((result.key.narrowing for result in results if result.key is not None), None)
        where = change.told(", and refused") if change is not None else ""
        messages.success(request, f"{_keys(revoked)} revoked{where}.")
    if left := outcomes.total():
        messages.warning(request, f"{_keys(left)} not revoked: your role does not allow it, or they are gone.")


def _sort_out(member: Member, keys: list[GatewayKey]) -> tuple[list[GatewayKey], list[tuple[GatewayKey, str]]]:
    """Return the keys that would be revoked, and the others each with the reason why not."""
    now = clock.now()
    managed = manages_all(member, {key.consumer_group_id for key in keys})
    reasons = {
        key: why_not("revoke", key, now) or ("" if managed[key.consumer_group_id] else "You do not manage its group.")
        for key in keys
    }
    return [key for key in keys if not reasons[key]], [(key, reason) for key, reason in reasons.items() if reason]


def _ids(texts: Iterable[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError as error:
        raise BadRequest("not the id of a key") from error


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count:,} keys"

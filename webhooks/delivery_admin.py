"""Deliveries in the console: each notice on its way to an endpoint or a mailbox, with every attempt."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from access.actors import request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.list_filters import VisibleDropdownFilter
from audit.moments import moment
from webhooks import endpoints
from webhooks.happenings import NoticeType
from webhooks.models import Attempt, Delivery, DeliveryState, WebhookEndpoint

STATE_LABELS: Final = {
    DeliveryState.PENDING.label: "info",
    DeliveryState.DELIVERED.label: "success",
    DeliveryState.FAILED.label: "danger",
}


class SendAgainForm(DialogForm):
    model = Delivery
    permission = "webhooks.redeliver_delivery"
    description = "The same notice is sent once more, under the same id: a receiver that has it already can tell."

    @property
    def conflict(self) -> str:
        delivery: Delivery = self.obj
        if delivery.endpoint is None:
            return "A mail is not sent again."
        if delivery.endpoint.disabled_at is not None:
            return "The endpoint is disabled. Enable it first."
        return "It is on its way already." if delivery.state == DeliveryState.PENDING else ""


class EndpointFilter(VisibleDropdownFilter):
    title = "endpoint"
    parameter_name = "endpoint"
    related = WebhookEndpoint


class TypeFilter(DropdownFilter):
    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name.value, str(name.label)) for name in NoticeType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        return queryset.filter(notice__type=self.value()) if self.value() else queryset


@admin.register(Delivery)
class DeliveryAdmin(ConsoleAdmin[Delivery]):
    list_display = ("queued", "type_label", "about", "to", "state_label", "last_attempt")
    list_display_links = ("queued",)
    list_filter = (("state", ChoicesDropdownFilter), EndpointFilter, TypeFilter)
    list_select_related = ("notice__key", "endpoint", "recipient")
    detail_select_related = ("notice__key", "endpoint", "recipient")
    search_fields = ("=notice__id", "notice__key__name")
    search_help_text = "Id of the notice (msg_…), or name of the key"
    ordering = ("-created_at", "-id")
    actions_row = ("send_again",)
    actions_detail = ("send_again",)
    change_form_outer_after_template = "webhooks/delivery_detail.html"
    fieldsets = (
        (None, {"fields": ("type_label", "about", "to", "state_label", "note_words")}),
        ("Times", {"fields": ("occurred", "queued", "next_attempt", "finished")}),
        ("Record", {"fields": ("notice_id_text",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        return super().get_queryset(request).prefetch_related("attempts")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field for _, options in self.fieldsets for field in options["fields"]]

    def offered_actions(self, request: HttpRequest, rows: Sequence[Delivery]) -> dict[Any, Collection[str]]:
        return {
            row.pk: ("send_again",)
            if row.endpoint is not None and row.state != DeliveryState.PENDING and row.endpoint.disabled_at is None
            else ()
            for row in rows
        }

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        delivery = self.get_object(request, object_id) if object_id is not None else None
        if delivery is not None:
            body = json.dumps(json.loads(delivery.notice.body), indent=2, ensure_ascii=False)
            extra_context = {"delivery": delivery, "body": body, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, extra_context)

    @dialog_action(SendAgainForm, title="Send again", submit="Send again", icon="replay")
    def send_again(self, request: HttpRequest, form: SendAgainForm) -> HttpResponse:
        delivery: Delivery = form.obj
        if delivery.endpoint_id is not None:
            endpoints.redeliver(actor=request_actor(request), endpoint_id=delivery.endpoint_id, delivery_id=delivery.pk)
        return reload_page(request, "The notice is sent again.")

    @display(description="Queued", ordering="created_at")
    def queued(self, delivery: Delivery) -> SafeString:
        return moment(delivery.created_at, seconds=True)

    @display(description="Notice")
    def type_label(self, delivery: Delivery) -> str:
        return str(NoticeType(delivery.notice.type).label)

    @display(description="About")
    def about(self, delivery: Delivery) -> SafeString | str:
        key = delivery.notice.key
        if key is None:
            return "—"
        link = reverse(f"{self.admin_site.name}:keys_gatewaykey_change", args=[key.pk])
        return format_html('<a class="kt-link" href="{}">{}</a>', link, key.name)

    @display(description="To")
    def to(self, delivery: Delivery) -> SafeString | str:
        if delivery.endpoint is None:
            return f"{delivery.recipient} (mail)"
        link = reverse(f"{self.admin_site.name}:webhooks_webhookendpoint_change", args=[delivery.endpoint_id])
        return format_html('<a class="kt-link" href="{}">{}</a>', link, delivery.endpoint.name)

    @display(description="State", label=STATE_LABELS)
    def state_label(self, delivery: Delivery) -> str:
        return str(DeliveryState(delivery.state).label)

    @display(description="Why")
    def note_words(self, delivery: Delivery) -> str:
        return delivery.note or "—"

    @display(description="Last attempt")
    def last_attempt(self, delivery: Delivery) -> SafeString | str:
        last = delivery.last_attempt
        # Of what was never tried, why: its endpoint was disabled before its turn came.
        words = told_attempt(last) if last else delivery.note
        return format_html('<span class="kt-wide-cell">{}</span>', words) if words else "none yet"

    @display(description="Happened")
    def occurred(self, delivery: Delivery) -> SafeString:
        return moment(delivery.notice.occurred_at, seconds=True)

    @display(description="Next attempt")
    def next_attempt(self, delivery: Delivery) -> SafeString:
        return moment(delivery.next_attempt_at, seconds=True)

    @display(description="Finished")
    def finished(self, delivery: Delivery) -> SafeString:
        return moment(delivery.finished_at, seconds=True)

    @display(description="ID (webhook-id)")
    def notice_id_text(self, delivery: Delivery) -> SafeString:
        return format_html('<code class="kt-mono">{}</code>', delivery.notice_id)


def told_attempt(attempt: Attempt) -> str:
    """Return in a few words what came of an attempt."""
    if attempt.error:
        return attempt.error.rstrip(".")
    took = f"in {attempt.duration_ms:,} ms"
    return f"{attempt.status} {took}" if attempt.status else f"accepted {took}"

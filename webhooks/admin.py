"""Webhook endpoints in the console: made, edited, tested, given new secrets, and what became of their deliveries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from access.actors import request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.kept_filters import keep_list_filters
from access.models import Member
from access.once import AlreadyDone, TokenField, once
from access.overtaken import expected_state
from access.refusals import Conflict
from access.reveal import Secret, reveal_in_dialog
from audit import clock
from audit.links import entries_link
from audit.moments import duration, moment
from webhooks import delivering, delivery_admin, endpoints
from webhooks.delivery_admin import told_attempt
from webhooks.endpoints import EDITABLE, IssuedSecret, LookedUp
from webhooks.happenings import CHOOSABLE, NoticeType
from webhooks.models import EndpointSecret, WebhookEndpoint

__all__ = ["delivery_admin"]

SHOWN: Final = 10
# So much of what a test was answered is told in its dialog; its delivery has more.
TOLD: Final = 200
OVERLAPS: Final = (
    ("0", "None: only the new secret signs"),
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
)
SPANS: Final = (("3600", "The last hour"), ("86400", "The last day"), ("604800", "The last 7 days"), ("", "All"))
# What was found of the address in a form, until it is carried out.
_looked_up: WeakKeyDictionary[HttpRequest, LookedUp] = WeakKeyDictionary()
STATE_LABELS: Final = {"Active": "success", "Failing": "warning", "Disabled": "danger"}


class EndpointForm(forms.ModelForm[WebhookEndpoint]):
    url = forms.CharField(
        label="Address",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://hooks.example.com/keeptrusts"}),
        help_text="An https address that anybody can reach. Private networks are refused unless an operator allows "
        "them; redirects are not followed.",
    )
    description = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}))
    event_types = forms.MultipleChoiceField(
        label="Told of",
        choices=[(name.value, f"{name.label} ({name.value})") for name in CHOOSABLE],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: everything, also what later versions add.",
    )


class NewEndpointForm(EndpointForm):
    form_token = TokenField()


class RotateSecretForm(DialogForm):
    model = WebhookEndpoint
    permission = "webhooks.rotate_secret_webhookendpoint"
    description = (
        "The endpoint gets a new signing secret, shown once. For the overlap, notices are signed with both, so that "
        "the receiver can be changed without losing one."
    )

    form_token = TokenField()
    overlap = forms.ChoiceField(label="Overlap", choices=OVERLAPS, initial="86400", widget=UnfoldAdminSelectWidget)


class TestForm(DialogForm):
    model = WebhookEndpoint
    permission = "webhooks.test_webhookendpoint"
    description = "A signed notice of type webhook_endpoint.test is posted to it now. What it answers is shown here."

    @property
    def conflict(self) -> str:
        return "This endpoint is disabled. Enable it first." if self.obj.disabled_at else ""


class DisableForm(DialogForm):
    model = WebhookEndpoint
    permission = "webhooks.disable_webhookendpoint"
    description = "Nothing more is sent to it. What waits counts as failed and can be sent again once it is enabled."
    destructive = True

    reason = forms.CharField(label="Reason", required=False, max_length=300, widget=UnfoldAdminTextInputWidget)

    @property
    def conflict(self) -> str:
        return "This endpoint is disabled already." if self.obj.disabled_at else ""


class EnableForm(DialogForm):
    model = WebhookEndpoint
    permission = "webhooks.enable_webhookendpoint"
    description = "Notices are sent to it again from now on. What it has missed, “Send again” sends."

    @property
    def conflict(self) -> str:
        return "" if self.obj.disabled_at else "This endpoint is not disabled."


class RedeliverForm(DialogForm):
    model = WebhookEndpoint
    permission = "webhooks.redeliver_webhookendpoint"
    description = "What has failed is sent once more, each notice under the id that it had."

    since = forms.ChoiceField(
        label="Queued in", choices=SPANS, initial="86400", required=False, widget=UnfoldAdminSelectWidget
    )

    @property
    def conflict(self) -> str:
        return "This endpoint is disabled. Enable it first." if self.obj.disabled_at else ""


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("failing", "Failing"), ("disabled", "Disabled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        match self.value():
            case "active":
                return queryset.filter(disabled_at__isnull=True, failing_since__isnull=True)
            case "failing":
                return queryset.filter(disabled_at__isnull=True, failing_since__isnull=False)
            case "disabled":
                return queryset.filter(disabled_at__isnull=False)
            case _:
                return queryset


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ConsoleAdmin[WebhookEndpoint]):
    form = EndpointForm
    list_display = ("name", "address", "state_label", "types", "last_delivery", "owner")
    list_filter = (StateFilter,)
    list_select_related = ("owner",)
    detail_select_related = ("owner",)
    search_fields = ("name", "url")
    search_help_text = "Name or address"
    ordering = ("name",)
    show_add_link = False
    add_title = "Create Webhook Endpoint"
    add_button = "Create and show the secret"
    change_form_before_template = "keys/form_token.html"
    change_form_outer_after_template = "webhooks/recent_deliveries.html"
    actions_list = ("create",)
    actions_row = ("send_test", "rotate_secret", "redeliver", "enable", "disable")
    actions_detail = ("send_test", "rotate_secret", "redeliver", "enable", "disable")
    add_fieldsets = (
        (None, {"fields": ("name", "url", "description")}),
        ("What it is told", {"fields": ("event_types",)}),
    )
    fieldsets = (
        *add_fieldsets,
        (
            "State",
            {"fields": ("state_label", "state_words", "last_delivery", "secrets", "owner", "created", "audit_trail")},
        ),
    )
    told = ("state_label", "state_words", "last_delivery", "secrets", "owner", "created", "audit_trail")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        signing = EndpointSecret.objects.filter(Q(valid_until__isnull=True) | Q(valid_until__gt=clock.now()))
        return super().get_queryset(request).prefetch_related(Prefetch("secrets", signing, to_attr="signing"))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewEndpointForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.told

    def offered_actions(self, request: HttpRequest, rows: Sequence[WebhookEndpoint]) -> dict[Any, Collection[str]]:
        on = ("send_test", "rotate_secret", "redeliver", "disable")
        return {row.pk: ("rotate_secret", "enable") if row.disabled_at else on for row in rows}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        endpoint = self.get_object(request, object_id) if object_id is not None else None
        if request.method == "POST" and self.allows(request, "add" if object_id is None else "change", endpoint):
            # Before Django's transaction around the form, which on SQLite keeps everybody from writing.
            url = request.POST.get("url", "").strip()
            if url != (endpoint.url if endpoint is not None else ""):
                _looked_up[request] = endpoints.look_up(url)
        if endpoint is not None:
            recent = endpoint.deliveries.select_related("notice").prefetch_related("attempts")[:SHOWN]
            extra_context = {"endpoint": endpoint, "deliveries": recent, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, extra_context)

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:webhooks_webhookendpoint_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[WebhookEndpoint]) -> WebhookEndpoint:
        given = dict(form.cleaned_data)
        token = given.pop("form_token")
        with once(member=cast("Member", request.user), path=request.path, token=token) as note:
            looked_up = _looked_up.get(request)
            issued = endpoints.create_endpoint(actor=request_actor(request), looked_up=looked_up, **given)
            note["id"] = str(issued.endpoint.pk)
        self.show_once(request, self._secret(issued, "Webhook endpoint created"))
        return issued.endpoint

    def verb_edit(
        self, request: HttpRequest, form: forms.ModelForm[WebhookEndpoint], obj: WebhookEndpoint
    ) -> WebhookEndpoint:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in EDITABLE}
        return endpoints.edit_endpoint(
            actor=request_actor(request),
            endpoint_id=obj.pk,
            changed=changed,
            looked_up=_looked_up.get(request),
            expected=expected_state(request),
        )

    def tag_of(self, obj: WebhookEndpoint) -> str:
        return endpoints.state_tag(obj)

    @dialog_action(RotateSecretForm, title="Rotate secret", submit="Rotate secret", icon="autorenew")
    def rotate_secret(self, request: HttpRequest, form: RotateSecretForm) -> HttpResponse:
        overlap = timedelta(seconds=int(form.cleaned_data["overlap"]))
        token = form.cleaned_data["form_token"]
        try:
            with once(member=cast("Member", request.user), path=request.path, token=token):
                issued = endpoints.rotate_secret(actor=request_actor(request), endpoint_id=form.obj.pk, overlap=overlap)
        except AlreadyDone as done:
            raise Conflict("already_processed", "This was carried out already. A secret is not shown twice.") from done
        words = f"The old secret signs beside it for {duration(overlap)}." if overlap else "The old one signs no more."
        return reveal_in_dialog(request, self._secret(issued, "Secret rotated", words))

    @dialog_action(TestForm, title="Send test", submit="Send test", icon="send")
    def send_test(self, request: HttpRequest, form: TestForm) -> HttpResponse:
        delivery = endpoints.send_test(actor=request_actor(request), endpoint_id=form.obj.pk)
        # Here and now: whoever tests wants to see. If a worker is faster, its attempt is the one.
        attempt = delivering.deliver(delivery.pk) or delivery.attempts.first()
        if attempt is None:
            return reload_page(request, f"A test is on its way to {form.obj}.")
        if attempt.error:
            answer = f", with “{attempt.answer[:TOLD]}”" if attempt.answer else ""
            raise ValidationError(f"{told_attempt(attempt)}{answer}. It is tried again, like every notice.")
        return reload_page(request, f"The test has arrived at {form.obj}: {told_attempt(attempt)}.")

    @dialog_action(DisableForm, title="Disable", submit="Disable", icon="block", loud=False)
    def disable(self, request: HttpRequest, form: DisableForm) -> HttpResponse:
        endpoints.disable_endpoint(
            actor=request_actor(request), endpoint_id=form.obj.pk, reason=form.cleaned_data["reason"]
        )
        return reload_page(request, f"Nothing more is sent to {form.obj}.")

    @dialog_action(EnableForm, title="Enable", submit="Enable", icon="play_arrow")
    def enable(self, request: HttpRequest, form: EnableForm) -> HttpResponse:
        endpoints.enable_endpoint(actor=request_actor(request), endpoint_id=form.obj.pk)
        return reload_page(request, f"Notices are sent to {form.obj} again.")

    @dialog_action(RedeliverForm, title="Send again", submit="Send again", icon="replay")
    def redeliver(self, request: HttpRequest, form: RedeliverForm) -> HttpResponse:
        seconds = form.cleaned_data["since"]
        since = clock.now() - timedelta(seconds=int(seconds)) if seconds else None
        queued = endpoints.redeliver(actor=request_actor(request), endpoint_id=form.obj.pk, since=since)
        words = "1 notice is" if queued == 1 else f"{queued:,} notices are"
        return reload_page(request, f"{words} sent again to {form.obj}.")

    def _secret(self, issued: IssuedSecret, title: str, overlap: str = "") -> Secret:
        link = reverse(f"{self.admin_site.name}:webhooks_webhookendpoint_change", args=[issued.endpoint.pk])
        return Secret(
            title=title,
            name=f"Signing secret of {issued.endpoint.name}",
            value=issued.value,
            usage="webhooks/secret_usage.html",
            done_url=link,
            variable="KEEPTRUSTS_WEBHOOK_SECRET",
            noun="secret",
            kept="Keeptrusts keeps it encrypted, for it signs with it, and never shows it again.",
            context={"overlap": overlap},
        )

    @display(description="State", label=STATE_LABELS)
    def state_label(self, endpoint: WebhookEndpoint) -> str:
        if endpoint.disabled_at is not None:
            return "Disabled"
        return "Failing" if endpoint.failing_since is not None else "Active"

    @display(description="Since")
    def state_words(self, endpoint: WebhookEndpoint) -> SafeString | str:
        if endpoint.disabled_at is not None:
            return format_html("{}<p>{}</p>", moment(endpoint.disabled_at), endpoint.disabled_reason)
        if endpoint.failing_since is not None:
            words = f"It is disabled after {delivering.PATIENCE.days} days without a success."
            return format_html("{}<p>{}</p>", moment(endpoint.failing_since), words)
        return "—"

    @display(description="Address", ordering="url")
    def address(self, endpoint: WebhookEndpoint) -> SafeString:
        return format_html('<code class="kt-mono kt-clip" title="{}">{}</code>', endpoint.url, endpoint.url)

    @display(description="Told of")
    def types(self, endpoint: WebhookEndpoint) -> str:
        labels = [NoticeType(name).label for name in endpoint.event_types if name in NoticeType.values]
        return f"{len(labels)} kinds" if len(labels) > 2 else ", ".join(str(label) for label in labels) or "everything"

    @display(description="Last delivery", ordering="delivered_at")
    def last_delivery(self, endpoint: WebhookEndpoint) -> SafeString:
        return moment(endpoint.delivered_at, absent="none yet")

    @display(description="Secrets that sign")
    def secrets(self, endpoint: Any) -> SafeString:
        rows = (
            (secret.hint, "current" if secret.valid_until is None else "until", moment(secret.valid_until, absent=""))
            for secret in getattr(endpoint, "signing", ())
        )
        row = '<li><code class="kt-mono">{}</code> {} <span class="kt-inline">{}</span></li>'
        return format_html("<ul>{}</ul>", format_html_join("", row, rows))

    @display(description="Created", ordering="created_at")
    def created(self, endpoint: WebhookEndpoint) -> SafeString:
        return moment(endpoint.created_at)

    @display(description="Audit log")
    def audit_trail(self, endpoint: WebhookEndpoint) -> SafeString:
        return entries_link("webhook_endpoint", endpoint.pk)

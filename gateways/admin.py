"""Gateways in the console: how their requests are counted, which groups they serve, and their tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Max, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelect2MultipleWidget, UnfoldAdminSelectWidget

from access.actors import request_actor
from access.console import ConsoleAdmin, ConsoleChangeList
from access.dialogs import DialogForm, dialog_action
from access.kept_filters import keep_list_filters
from access.list_filters import VisibleDropdownFilter
from access.models import Member
from access.once import AlreadyDone, TokenField, once
from access.overtaken import expected_state
from access.refusals import Conflict
from access.reveal import Secret, reveal_in_dialog
from audit import clock
from audit.links import entries_link
from audit.moments import duration, moment
from gateways import denials_page, explaining_pages, finding_pages  # noqa: F401  # pages that register themselves
from gateways.models import ClientAddress, Gateway, GatewayToken, UsageSource
from gateways.registry import EDITABLE, IssuedToken, create_gateway, edit_gateway, rotate_token, state_tag
from keys.models import ConsumerGroup
from usage.models import UsageBucket

# How far back "last seen" looks: a bound, so that the list stays quick however much was counted.
SEEN_WITHIN: Final = timedelta(days=7)
OVERLAPS: Final = (
    ("0", "None: the old token is refused at once"),
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
)
USAGE_HELP: Final = (
    "When asked: nothing more to set up; the status of the answer is not known, so the error rate is “not reported”. "
    "Reported: with status, latency and tokens; the gateway, or a log shipper beside it, sends what was served."
)


class GatewayForm(forms.ModelForm[Gateway]):
    consumer_groups = forms.ModelMultipleChoiceField(
        queryset=ConsumerGroup.objects.all(),
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="The groups whose keys it may accept. None named: all of them.",
    )
    usage_source = forms.ChoiceField(
        choices=UsageSource.choices,
        initial=UsageSource.AUTHORIZE,
        widget=UnfoldAdminRadioSelectWidget,
        help_text=USAGE_HELP,
    )
    client_address = forms.ChoiceField(
        label="Client address from",
        choices=ClientAddress.choices,
        initial=ClientAddress.HEADER,
        widget=UnfoldAdminSelectWidget,
        help_text="The header in which it sends the client's address; allowed networks are held against it.",
    )


class NewGatewayForm(GatewayForm):
    form_token = TokenField()


class RotateTokenForm(DialogForm):
    model = Gateway
    permission = "gateways.rotate_token_gateway"
    description = "The gateway gets a new token, shown once. Choose how long the old one still works beside it."

    form_token = TokenField()
    overlap = forms.ChoiceField(label="Overlap", choices=OVERLAPS, initial="3600", widget=UnfoldAdminSelectWidget)


class ServesFilter(VisibleDropdownFilter):
    title = "consumer group"
    parameter_name = "consumer_groups"
    related = ConsumerGroup


class GatewayList(ConsoleChangeList):
    """A page of gateways that knows when each was last heard of."""

    last_seen: dict[UUID, datetime]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.last_seen = last_seen([gateway.pk for gateway in self.result_list])
        for gateway in self.result_list:
            gateway.seen = self.last_seen.get(gateway.pk)


@admin.register(Gateway)
class GatewayAdmin(ConsoleAdmin[Gateway]):
    form = GatewayForm
    list_display = ("name", "usage_label", "groups", "token", "seen_at", "created")
    list_filter = (("usage_source", ChoicesDropdownFilter), ServesFilter)
    search_fields = ("name", "tokens__hint")
    search_help_text = "Name, or hint of a token"
    ordering = ("name",)
    show_add_link = False
    add_title = "Register Gateway"
    add_button = "Register and show the token"
    change_form_before_template = "keys/form_token.html"
    change_form_outer_before_template = "usage/gateway_overview.html"
    actions_list = ("create",)
    actions_row = ("rotate_token",)
    actions_detail = ("rotate_token",)
    add_fieldsets = (
        (None, {"fields": ("name", "usage_source")}),
        ("What it may serve", {"fields": ("consumer_groups", "require_group", "client_address")}),
    )
    fieldsets = (
        *add_fieldsets,
        ("State", {"fields": ("identifier", "tokens", "seen_at", "created", "audit_trail")}),
    )
    view_fieldsets = (
        (None, {"fields": ("name", "usage_label", "groups", "require_group", "client_address")}),
        ("State", {"fields": ("identifier", "tokens", "seen_at", "created", "audit_trail")}),
    )
    told = ("usage_label", "groups", "identifier", "tokens", "seen_at", "created", "audit_trail")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Gateway]:
        accepted = GatewayToken.objects.filter(Q(valid_until__isnull=True) | Q(valid_until__gt=clock.now()))
        # A Manager is told of their own groups only, here as everywhere.
        groups = cast("Member", request.user).visible(ConsumerGroup.objects.all())
        return (
            super()
            .get_queryset(request)
            .prefetch_related(
                Prefetch("tokens", accepted, to_attr="accepted_tokens"),
                Prefetch("consumer_groups", groups, to_attr="visible_groups"),
            )
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ConsoleChangeList]:
        return GatewayList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return self.view_fieldsets
        return super().get_fieldsets(request, obj)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewGatewayForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.told

    def offered_actions(self, request: HttpRequest, rows: Sequence[Gateway]) -> dict[Any, Collection[str]]:
        offered = ("rotate_token",) if self.allows(request, "rotate_token") else ()
        return {row.pk: offered for row in rows}

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:gateways_gateway_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[Gateway]) -> Gateway:
        given = dict(form.cleaned_data)
        token = given.pop("form_token")
        with once(member=cast("Member", request.user), path=request.path, token=token) as note:
            issued = create_gateway(actor=request_actor(request), **given)
            note["id"] = str(issued.gateway.pk)
        self.show_once(request, self._secret(request, issued, "Gateway registered"))
        return issued.gateway

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[Gateway], obj: Gateway) -> Gateway:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in EDITABLE}
        expected = expected_state(request)
        return edit_gateway(actor=request_actor(request), gateway_id=obj.pk, changed=changed, expected=expected)

    def tag_of(self, obj: Gateway) -> str:
        return state_tag(obj)

    @dialog_action(RotateTokenForm, title="Rotate token", submit="Rotate token", icon="autorenew")
    def rotate_token(self, request: HttpRequest, form: RotateTokenForm) -> HttpResponse:
        overlap = timedelta(seconds=int(form.cleaned_data["overlap"]))
        token = form.cleaned_data["form_token"]
        try:
            with once(member=cast("Member", request.user), path=request.path, token=token):
                issued = rotate_token(actor=request_actor(request), gateway_id=form.obj.pk, overlap=overlap)
        except AlreadyDone as done:
            raise Conflict("already_processed", "This was carried out already. A token is not shown twice.") from done
        words = f"The old token is accepted for {duration(overlap)} more." if overlap else "The old token is refused."
        return reveal_in_dialog(request, self._secret(request, issued, "Token rotated", words))

    def _secret(self, request: HttpRequest, issued: IssuedToken, title: str, overlap: str = "") -> Secret:
        link = reverse(f"{self.admin_site.name}:gateways_gateway_change", args=[issued.gateway.pk])
        context = {
            "authorize": request.build_absolute_uri("/gateway/v1/authorize"),
            "report": request.build_absolute_uri("/gateway/v1/usage"),
            "reports": issued.gateway.usage_source == UsageSource.REPORT,
            "overlap": overlap,
        }
        return Secret(
            title=title,
            name=f"Token of {issued.gateway.name}",
            value=issued.value,
            usage="console/gateway_token_usage.html",
            done_url=link,
            variable="KEEPTRUSTS_GATEWAY_TOKEN",
            context=context,
        )

    @display(
        description="Usage",
        ordering="usage_source",
        label={UsageSource.AUTHORIZE.label: "default", UsageSource.REPORT.label: "info"},
    )
    def usage_label(self, gateway: Gateway) -> str:
        return str(UsageSource(gateway.usage_source).label)

    @display(description="Consumer groups")
    def groups(self, gateway: Any) -> SafeString | str:
        names = sorted(group.name for group in getattr(gateway, "visible_groups", ()))
        return format_html('<span class="kt-wide-cell">{}</span>', ", ".join(names)) if names else "all"

    @display(description="Token")
    def token(self, gateway: Any) -> SafeString:
        current = next((token for token in gateway.accepted_tokens if token.valid_until is None), None)
        older = len(gateway.accepted_tokens) - 1
        words = f"and {older} older" if older > 0 else ""
        return format_html(
            '<code class="kt-mono">{}</code> <small class="kt-quiet">{}</small>',
            current.hint if current else "—",
            words,
        )

    @display(description="Tokens that are accepted")
    def tokens(self, gateway: Any) -> SafeString | str:
        rows = (
            (token.hint, "current" if token.valid_until is None else "until", moment(token.valid_until, absent=""))
            for token in getattr(gateway, "accepted_tokens", ())
        )
        row = '<li><code class="kt-mono">{}</code> {} <span class="kt-inline">{}</span></li>'
        return format_html("<ul>{}</ul>", format_html_join("", row, rows))

    @display(description="Last seen")
    def seen_at(self, gateway: Any) -> SafeString:
        if not hasattr(gateway, "seen"):
            gateway.seen = last_seen([gateway.pk]).get(gateway.pk)
        return moment(gateway.seen, absent=f"not in the last {SEEN_WITHIN.days} days")

    @display(description="Audit log")
    def audit_trail(self, gateway: Gateway) -> SafeString:
        return entries_link("gateway", gateway.pk)

    @display(description="Registered", ordering="created_at")
    def created(self, gateway: Gateway) -> SafeString:
        return moment(gateway.created_at)

    @display(description="ID")
    def identifier(self, gateway: Gateway) -> SafeString:
        return format_html('<code class="kt-mono">{}</code>', gateway.pk)


def last_seen(gateway_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Return when each gateway was last heard of within SEEN_WITHIN, right to five minutes, in one query."""
    recent = UsageBucket.objects.filter(gateway__in=gateway_ids, start__gt=clock.now() - SEEN_WITHIN)
    return dict(recent.order_by().values_list("gateway").annotate(Max("start")))

"""Consumer groups in the console: who manages them, and the policy for their keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelect2MultipleWidget, UnfoldAdminTextareaWidget

from access.actors import request_actor
from access.console import ConsoleAdmin
from access.kept_filters import keep_list_filters
from access.models import Member
from access.overtaken import expected_state
from access.rules import Role
from audit.links import entries_link
from audit.moments import duration, moment
from keys.groups import EDITABLE, create_group, edit_group, impact_of_edit, state_tag
from keys.models import ConsumerGroup, GatewayKey
from keys.policy_forms import NetworksField, PolicyForm, tell_alignment
from keys.policy_impact import Impact


class GroupForm(PolicyForm[ConsumerGroup]):
    description = forms.CharField(required=False, max_length=2_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))
    allowed_networks = NetworksField(
        required=False,
        help_text="One network a line, such as 10.0.0.0/8 or 2001:db8::/32. None: the traffic may come from anywhere. "
        "A key may narrow this further, never widen it.",
    )
    managers = forms.ModelMultipleChoiceField(
        queryset=Member.objects.filter(role=Role.MANAGER),
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="Only these Managers (and Admins) manage the group's keys. None named: every Manager does.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            # Who is named stays to be chosen in another role, too: left out here, the group might name nobody after
            # the next Save, and so be every Manager's.
            choice = cast("forms.ModelMultipleChoiceField[Member]", self.fields["managers"])
            named = self.instance.managers.values("pk")
            choice.queryset = Member.objects.filter(Q(role=Role.MANAGER) | Q(pk__in=named))

    def impact_of(self, changed: dict[str, Any]) -> Impact:
        return impact_of_edit(self.instance, changed)


@admin.register(ConsumerGroup)
class ConsumerGroupAdmin(ConsoleAdmin[ConsumerGroup]):
    form = GroupForm
    list_display = ("name", "slug_text", "live_keys", "managed_by", "policy", "created")
    search_fields = ("name", "slug", "description")
    search_help_text = "Name, slug or description"
    ordering = ("name",)
    show_add_link = False
    change_form_before_template = "keys/policy_impact.html"
    change_form_outer_before_template = "usage/group_overview.html"
    add_title = "Create Consumer Group"
    actions_list = ("create",)
    prepopulated_fields = {"slug": ("name",)}
    add_fieldsets = (
        (None, {"fields": ("name", "slug", "description", "managers")}),
        (
            "How long keys live",
            {
                "description": "You are shown which existing keys a stricter rule breaks, and say what is to become "
                "of them. Where the installation's policy is stricter, that holds.",
                "fields": ("default_lifetime_days", "max_lifetime_days", "expiry_required", "idle_days"),
            },
        ),
        (
            "Rotation and networks",
            {
                "description": "Networks hold at once, for every key of the group.",
                "fields": ("max_grace_seconds", "allowed_networks"),
            },
        ),
    )
    fieldsets = (*add_fieldsets, ("What is in it", {"fields": ("key_link", "created", "audit_trail")}))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # Who only reads gets lines of text, not what the database keeps.
        shown = {"allowed_networks": "networks"}
        return [
            (title, {**options, "fields": [shown.get(field, field) for field in options["fields"]]})
            for title, options in fieldsets
        ]

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return {} if obj is not None else self.prepopulated_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Gateways name the slug in their configuration: it stays.
        return ("slug", "networks", "key_link", "created", "audit_trail") if obj is not None else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConsumerGroup]:
        keys = GatewayKey.objects.usable().filter(consumer_group=OuterRef("pk")).order_by()
        count = keys.values("consumer_group").annotate(count=Count("pk")).values("count")
        managers = Prefetch("managers", Member.objects.order_by("username"))
        return (
            super()
            .get_queryset(request)
            .annotate(live_key_count=Coalesce(Subquery(count), 0))
            .prefetch_related(managers)
        )

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:keys_consumergroup_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[ConsumerGroup]) -> ConsumerGroup:
        given = {name: value for name, value in form.cleaned_data.items() if name in {"slug", *EDITABLE}}
        return create_group(actor=request_actor(request), **given)

    def verb_edit(
        self, request: HttpRequest, form: forms.ModelForm[ConsumerGroup], obj: ConsumerGroup
    ) -> ConsumerGroup:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in EDITABLE}
        return edit_group(
            actor=request_actor(request),
            group_id=obj.pk,
            changed=changed,
            existing_keys=form.cleaned_data["existing_keys"] or None,
            expected=expected_state(request),
        )

    def response_change(self, request: HttpRequest, obj: ConsumerGroup) -> HttpResponse:
        tell_alignment(request, obj)
        return super().response_change(request, obj)

    def tag_of(self, obj: ConsumerGroup) -> str:
        return state_tag(obj)

    @display(description="Slug", ordering="slug")
    def slug_text(self, group: ConsumerGroup) -> SafeString:
        return format_html('<code class="kt-mono">{}</code>', group.slug)

    @display(description="Live keys", ordering="live_key_count")
    def live_keys(self, group: Any) -> str:
        return f"{group.live_key_count:,}"

    @display(description="Managed by")
    def managed_by(self, group: ConsumerGroup) -> str:
        return ", ".join(member.username for member in group.managers.all()) or "every Manager"

    @display(description="Policy")
    def policy(self, group: ConsumerGroup) -> SafeString:
        return format_html('<span class="kt-wide-cell">{}</span>', " · ".join(policy_words(group)) or "no limits")

    @display(description="Allowed networks")
    def networks(self, group: ConsumerGroup) -> str:
        return "\n".join(group.allowed_networks) or "Anywhere"

    @display(description="Gateway keys")
    def key_link(self, group: Any) -> SafeString:
        link = reverse(f"{self.admin_site.name}:keys_gatewaykey_changelist")
        words = "1 live key" if group.live_key_count == 1 else f"{group.live_key_count:,} live keys"
        return format_html('<a class="kt-link" href="{}?consumer_group={}">{}</a>', link, group.pk, words)

    @display(description="Audit log")
    def audit_trail(self, group: ConsumerGroup) -> SafeString | str:
        return entries_link("consumer_group", group.pk) if group.pk else "—"

    @display(description="Created", ordering="created_at")
    def created(self, group: ConsumerGroup) -> SafeString:
        return moment(group.created_at)


def policy_words(group: ConsumerGroup) -> list[str]:
    """Return what a group's policy says, in a few words for each part that is set."""
    words = []
    if group.max_lifetime_days is not None:
        words.append(f"at most {group.max_lifetime_days:,} days")
    if group.default_lifetime_days is not None:
        words.append(f"{group.default_lifetime_days:,} days by default")
    if group.expiry_required and group.max_lifetime_days is None:
        words.append("expiry mandatory")
    if group.max_grace_seconds is not None:
        span = duration(timedelta(seconds=group.max_grace_seconds))
        words.append(f"grace up to {span}" if group.max_grace_seconds else "no grace")
    if group.allowed_networks:
        count = len(group.allowed_networks)
        words.append("1 network" if count == 1 else f"{count} networks")
    if group.idle_days is not None:
        words.append(f"revoked after {group.idle_days:,} idle days")
    return words

"""Access keys in the console: one's own; Admins see and may revoke everybody's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from access.access_keys import create_access_key, revoke_access_key
from access.actors import request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.kept_filters import keep_list_filters
from access.list_filters import VisibleDropdownFilter
from access.models import AccessKey, Member
from access.once import TokenField, once
from access.reveal import Secret
from audit import clock
from audit.links import entries_link
from audit.moments import moment

STATUS_LABELS: Final = {"Active": "success", "Expired": "warning", "Revoked": "danger"}
LIFETIMES: Final = (
    ("7", "7 days"),
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "1 year"),
    ("", "Never, until it is revoked"),
)


class NewAccessKeyForm(forms.ModelForm[AccessKey]):
    form_token = TokenField()
    lifetime = forms.ChoiceField(
        label="Expires in",
        choices=LIFETIMES,
        initial="90",
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="A short life limits what a leaked key can do.",
    )


class RevokeForm(DialogForm):
    model = AccessKey
    permission = "access.revoke_accesskey"
    description = "Whatever uses this access key is refused from the next request on. This cannot be undone."
    destructive = True

    @property
    def conflict(self) -> str:
        return "This access key is revoked already." if self.obj.revoked_at else ""


class StatusFilter(DropdownFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AccessKey]) -> QuerySet[AccessKey]:
        expired = Q(expires_at__isnull=False, expires_at__lte=clock.now())
        match self.value():
            case "active":
                return queryset.filter(~expired, revoked_at__isnull=True)
            case "expired":
                return queryset.filter(expired, revoked_at__isnull=True)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case _:
                return queryset


class OwnerFilter(VisibleDropdownFilter):
    title = "owner"
    parameter_name = "owner"
    related = Member


@admin.register(AccessKey)
class AccessKeyAdmin(ConsoleAdmin[AccessKey]):
    list_display = ("name", "hint", "owner", "status_label", "created", "expires", "last_used")
    list_filter = (StatusFilter, OwnerFilter)
    list_select_related = ("owner",)
    search_fields = ("name", "hint", "owner__username")
    search_help_text = "Name, hint or owner"
    ordering = ("-created_at",)
    show_add_link = False
    add_title = "Create Access Key"
    add_button = "Create and show the value"
    confirmed_only = True
    change_form_before_template = "keys/form_token.html"
    actions_list = ("create",)
    actions_row = ("revoke",)
    actions_detail = ("revoke",)
    add_fieldsets = ((None, {"fields": ("name", "lifetime")}),)
    fieldsets = (
        (None, {"fields": ("name", "hint", "owner", "status_label")}),
        ("Times", {"fields": ("created", "expires", "last_used", "revoked", "audit_trail")}),
    )

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return tuple(column for column in self.list_display if column != "owner" or self._sees_all(request))

    def get_list_filter(self, request: HttpRequest) -> tuple[Any, ...]:
        return self.list_filter if self._sees_all(request) else (StatusFilter,)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewAccessKeyForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("status_label", "created", "expires", "last_used", "revoked", "audit_trail") if obj is not None else ()

    def offered_actions(self, request: HttpRequest, rows: Sequence[AccessKey]) -> dict[Any, Collection[str]]:
        return {row.pk: () if row.revoked_at else ("revoke",) for row in rows}

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:access_accesskey_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[AccessKey]) -> AccessKey:
        days, owner = form.cleaned_data["lifetime"], cast("Member", request.user)
        with once(member=owner, path=request.path, token=form.cleaned_data["form_token"]) as note:
            issued = create_access_key(
                actor=request_actor(request),
                owner=owner,
                name=form.cleaned_data["name"],
                expires_at=clock.now() + timedelta(days=int(days)) if days else None,
            )
            note["id"] = str(issued.access_key.pk)
        done = reverse(f"{self.admin_site.name}:access_accesskey_changelist")
        secret = Secret(
            title="Access key created",
            name=f"The value of {issued.access_key.name}",
            value=issued.value,
            usage="console/access_key_usage.html",
            done_url=done,
            variable="KEEPTRUSTS_ACCESS_KEY",
            context={"api": request.build_absolute_uri("/api/v1/me/")},
        )
        self.show_once(request, secret)
        return issued.access_key

    @dialog_action(RevokeForm, title="Revoke access key", submit="Revoke", icon="block")
    def revoke(self, request: HttpRequest, form: RevokeForm) -> HttpResponse:
        revoke_access_key(actor=request_actor(request), access_key_id=form.obj.pk)
        return reload_page(request, f"{form.obj} is revoked.")

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, access_key: AccessKey) -> str:
        return access_key.status().capitalize()

    @display(description="Created", ordering="created_at")
    def created(self, access_key: AccessKey) -> SafeString:
        return moment(access_key.created_at)

    @display(description="Expires", ordering="expires_at")
    def expires(self, access_key: AccessKey) -> SafeString:
        return moment(access_key.expires_at, absent="never")

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, access_key: AccessKey) -> SafeString:
        return moment(access_key.last_used_at, absent="never")

    @display(description="Audit log")
    def audit_trail(self, access_key: AccessKey) -> SafeString:
        return entries_link("access_key", access_key.pk)

    @display(description="Revoked")
    def revoked(self, access_key: AccessKey) -> SafeString:
        return moment(access_key.revoked_at)

    def _sees_all(self, request: HttpRequest) -> bool:
        """Say whether the member sees the access keys of others, so that the owner tells something."""
        return cast("Member", request.user).may("access.view_member")

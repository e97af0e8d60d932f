"""Access keys in the console: one's own; Admins see, rename and revoke everybody's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from access.access_keys import create_access_key, default_expiry, edit_access_key, longest_lifetime, revoke_access_key
from access.actors import request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.kept_filters import keep_list_filters
from access.list_filters import VisibleDropdownFilter
from access.models import AccessKey, AccessKeyQuerySet, Member
from access.once import TokenField, once
from access.reveal import Secret
from audit import clock
from audit.links import entries_link
from audit.moments import moment

STATUS_LABELS: Final = {"Active": "success", "Expired": "warning", "Revoked": "danger"}
# A model of the house above, by its name (design §10).
GROUPS: Final = AccessKey._meta.get_field("consumer_groups").related_model._default_manager
LIFETIME_DAYS: Final = (7, 30, 90, 365)


def default_days() -> int:
    now = clock.now()
    return (default_expiry(now) - now).days


def lifetimes() -> list[tuple[str, str]]:
    """Return the lifetimes to choose from: none above the installation's ceiling, and never where it has none."""
    most = longest_lifetime()
    offered = {*LIFETIME_DAYS, default_days(), *([most.days] if most is not None else ())}
    days = sorted(day for day in offered if most is None or day <= most.days)
    choices = [(str(day), "1 year" if day == 365 else "1 day" if day == 1 else f"{day} days") for day in days]
    return choices if most is not None else [*choices, ("", "Never, until it is revoked")]


class AccessKeyForm(forms.ModelForm[AccessKey]):
    class Meta:
        model = AccessKey
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "placeholder": "github-actions"})}
        help_texts = {"name": "What uses it."}


class NewAccessKeyForm(AccessKeyForm):
    form_token = TokenField()
    lifetime = forms.ChoiceField(
        label="Expires in",
        choices=lifetimes,
        initial=lambda: str(default_days()),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="A short life limits what a leaked key can do.",
    )
    read_only = forms.BooleanField(
        label="Read-only",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="It reads and exports what you may, and changes nothing.",
    )
    consumer_groups = forms.ModelMultipleChoiceField(
        label="Only these consumer groups",
        queryset=GROUPS.none(),
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="It sees and touches the keys of these groups alone. None named: everything that you may.",
    )

    def clean_lifetime(self) -> str:
        days = str(self.cleaned_data["lifetime"])
        if not days and longest_lifetime() is not None:
            raise forms.ValidationError("Choose when it expires.", code="required")
        return days


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
        status = self.value()
        if status not in dict(self.lookups(request, None)):
            return queryset
        return cast("AccessKeyQuerySet", queryset).in_status(status)


class OwnerFilter(VisibleDropdownFilter):
    title = "owner"
    parameter_name = "owner"
    related = Member


@admin.register(AccessKey)
class AccessKeyAdmin(ConsoleAdmin[AccessKey]):
    form = AccessKeyForm
    list_display = ("name", "hint", "owner", "status_label", "limits", "created", "expires", "last_used")
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
    add_fieldsets = (
        (None, {"fields": ("name", "lifetime")}),
        ("What it may do less than you", {"fields": ("read_only", "consumer_groups")}),
    )
    fieldsets = (
        (None, {"fields": ("name", "hint", "owner", "status_label", "limits")}),
        ("Times", {"fields": ("created", "expires", "last_used", "revoked", "audit_trail")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessKey]:
        return super().get_queryset(request).prefetch_related("consumer_groups")

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return tuple(column for column in self.list_display if column != "owner" or self._sees_all(request))

    def get_list_filter(self, request: HttpRequest) -> tuple[Any, ...]:
        return self.list_filter if self._sees_all(request) else (StatusFilter,)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewAccessKeyForm
        form = super().get_form(request, obj, change=change, **kwargs)
        if obj is None:
            groups = cast("forms.ModelMultipleChoiceField[Any]", form.base_fields["consumer_groups"])
            groups.queryset = cast("Member", request.user).visible(GROUPS.all())
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        told = ("hint", "owner", "status_label", "limits", "created", "expires", "last_used", "revoked", "audit_trail")
        return told if obj is not None else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A revoked one is as it was: there is nothing to save.
        return super().has_change_permission(request, obj) and not (obj is not None and obj.revoked_at)

    def offered_actions(self, request: HttpRequest, rows: Sequence[AccessKey]) -> dict[Any, Collection[str]]:
        return {row.pk: () if row.revoked_at else ("revoke",) for row in rows}

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:access_accesskey_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[AccessKey]) -> AccessKey:
        given, owner = form.cleaned_data, cast("Member", request.user)
        days, groups = given["lifetime"], [str(group.slug) for group in given["consumer_groups"]]
        with once(member=owner, path=request.path, token=given["form_token"]) as note:
            issued = create_access_key(
                actor=request_actor(request),
                owner=owner,
                name=given["name"],
                expires_at=clock.now() + timedelta(days=int(days)) if days else None,
                read_only=given["read_only"],
                consumer_groups=groups or None,
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
            context={
                "limits": self.limits(issued.access_key).lower(),
                "api": request.build_absolute_uri("/api/v1/me/"),
            },
        )
        self.show_once(request, secret)
        return issued.access_key

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[AccessKey], obj: AccessKey) -> AccessKey:
        changed = {field: form.cleaned_data[field] for field in form.changed_data}
        return edit_access_key(actor=request_actor(request), access_key_id=obj.pk, changed=changed)

    @dialog_action(RevokeForm, title="Revoke access key", submit="Revoke", icon="block")
    def revoke(self, request: HttpRequest, form: RevokeForm) -> HttpResponse:
        revoke_access_key(actor=request_actor(request), access_key_id=form.obj.pk)
        return reload_page(request, f"{form.obj} is revoked.")

    @display(description="Status", label=STATUS_LABELS)
    def status_label(self, access_key: AccessKey) -> str:
        return access_key.status().capitalize()

    @display(description="Limits")
    def limits(self, access_key: AccessKey) -> str:
        groups = access_key.group_slugs()
        said = ["Read-only"] if access_key.read_only else []
        if groups is not None:
            said.append(f"only {', '.join(groups) or 'groups that are gone'}")
        return " · ".join(said) or "As its owner's role"

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

"""Members in the console: who they are, their role, whether they may come in. Admins alone see this."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.contrib.auth.password_validation import password_validators_help_texts, validate_password
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminPasswordWidget

from access.actors import request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.kept_filters import keep_list_filters
from access.members import EDITABLE, create_member, edit_member, set_password
from access.models import AccessKey, Member
from access.rules import Role
from audit import clock
from audit.moments import moment

ROLE_LABELS: Final = {"Admin": "primary", "Manager": "info", "Auditor": "default"}
ROLE_HELP: Final = (
    "Admins do everything. Managers create, edit, rotate, disable and revoke keys of the groups they manage. "
    "Auditors see everything and change nothing."
)


def new_password() -> forms.CharField:
    return forms.CharField(
        label="New password",
        strip=False,
        max_length=1_000,
        help_text=" ".join(password_validators_help_texts()),
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )


def same_password() -> forms.CharField:
    return forms.CharField(
        label="New password, again",
        strip=False,
        max_length=1_000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )


def check_passwords(form: forms.BaseForm, member: Member) -> None:
    """Add an error to `form` where the two passwords differ or are too weak for `member`."""
    password = form.cleaned_data.get("new_password")
    if password and password != form.cleaned_data.get("same_password"):
        form.add_error("same_password", ValidationError("The two passwords differ.", code="password_mismatch"))
    elif password:
        try:
            validate_password(password, member)
        except ValidationError as error:
            form.add_error("new_password", error)


class NewMemberForm(forms.ModelForm[Member]):
    new_password = new_password()
    same_password = same_password()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        particulars = {name: self.cleaned_data.get(name, "") for name in ("username", "name", "email")}
        check_passwords(self, Member(**particulars))
        return cleaned


class PasswordForm(DialogForm):
    """An Admin gives a member another password."""

    model = Member
    permission = "access.change_member"
    description = "All sessions of this member end. Tell them the new password by a safe way; they can change it."

    new_password = new_password()
    same_password = same_password()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        check_passwords(self, self.obj)
        return cleaned


@admin.register(Member)
class MemberAdmin(ConsoleAdmin[Member]):
    list_display = ("username", "full_name", "role_label", "is_active", "last_sign_in", "access_key_count")
    list_display_links = ("username",)
    list_filter = (("role", ChoicesDropdownFilter), "is_active")
    search_fields = ("username", "name", "email")
    search_help_text = "Username, name or email address"
    ordering = ("username",)
    form = forms.ModelForm
    radio_fields: ClassVar[dict[str, Any]] = {"role": admin.VERTICAL}
    show_add_link = False
    change_form_before_template = "keys/form_token.html"
    add_title = "Add Member"
    add_button = "Add"
    actions_list = ("create",)
    actions_row = ("set_password",)
    actions_detail = ("set_password",)

    add_fieldsets = (
        (None, {"fields": ("username", "name", "email", "role")}),
        ("Password", {"fields": ("new_password", "same_password")}),
    )
    fieldsets = (
        (None, {"fields": ("handle", "name", "email", "role", "is_active")}),
        (
            "What they did and hold",
            {"fields": ("date_joined_at", "last_sign_in", "groups", "access_keys", "audit_trail")},
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("handle", "date_joined_at", "last_sign_in", "groups", "access_keys", "audit_trail")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewMemberForm
        form_class = super().get_form(request, obj, change=change, **kwargs)
        if "role" in form_class.base_fields:
            form_class.base_fields["role"].help_text = ROLE_HELP
        return form_class

    def get_queryset(self, request: HttpRequest) -> QuerySet[Member]:
        now = clock.now()
        live = Q(access_keys__revoked_at__isnull=True) & (
            Q(access_keys__expires_at__isnull=True) | Q(access_keys__expires_at__gt=now)
        )
        live &= Q(access_keys__isnull=False)
        return super().get_queryset(request).annotate(live_access_keys=Count("access_keys", filter=live))

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:access_member_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[Member]) -> Member:
        given = form.cleaned_data
        return create_member(
            actor=request_actor(request),
            username=given["username"],
            password=given["new_password"],
            role=given["role"],
            name=given["name"],
            email=given["email"],
        )

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[Member], obj: Member) -> Member:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in EDITABLE}
        return edit_member(actor=request_actor(request), member_id=obj.pk, changed=changed)

    @dialog_action(PasswordForm, title="Set password", submit="Set password", icon="password")
    def set_password(self, request: HttpRequest, form: PasswordForm) -> HttpResponse:
        set_password(actor=request_actor(request), member_id=form.obj.pk, password=form.cleaned_data["new_password"])
        return reload_page(request, f"{form.obj} has a new password; their sessions have ended.")

    @display(description="Username")
    def handle(self, member: Member) -> str:
        return member.username

    @display(description="Full name", ordering="name")
    def full_name(self, member: Member) -> str:
        return member.name or "—"

    @display(description="Role", ordering="role", label=ROLE_LABELS)
    def role_label(self, member: Member) -> str:
        return Role(member.role).label

    @display(description="Last sign-in", ordering="last_login")
    def last_sign_in(self, member: Member) -> SafeString:
        return moment(member.last_login, absent="never")

    @display(description="Joined")
    def date_joined_at(self, member: Member) -> SafeString:
        return moment(member.date_joined)

    @display(description="Access keys", ordering="live_access_keys")
    def access_key_count(self, member: Any) -> str:
        return f"{member.live_access_keys:,}"

    @display(description="Consumer groups that name them")
    def groups(self, member: Any) -> str:
        # A relation of the house above, by its name (design §10).
        names = [str(group) for group in member.managed_groups.all()] if member.pk else []
        return ", ".join(names) or "—"

    @display(description="Access keys")
    def access_keys(self, member: Any) -> SafeString | str:
        if member.pk is None:
            return "—"
        link = reverse(f"{self.admin_site.name}:{AccessKey._meta.app_label}_accesskey_changelist")
        return format_html('<a class="kt-link" href="{}?owner={}">{} active</a>', link, member.pk, self.live(member))

    @display(description="Audit log")
    def audit_trail(self, member: Member) -> SafeString | str:
        if member.pk is None:
            return "—"
        link = reverse(f"{self.admin_site.name}:audit_auditentry_changelist")
        return format_html('<a class="kt-link" href="{}?q={}">What {} did</a>', link, member.username, member)

    @staticmethod
    def live(member: Any) -> int:
        """Return how many access keys of theirs are accepted now."""
        return int(getattr(member, "live_access_keys", 0))

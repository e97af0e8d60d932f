"""Members in the console: who they are, their role, whether they may come in. Admins alone see this."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from access.actors import caller, request_actor
from access.console import ConsoleAdmin
from access.dialogs import dialog_action, reload_page
from access.invitations import OPEN, Invited, invite_member, replace_invitation, withdraw_invitation
from access.kept_filters import keep_list_filters
from access.member_dialogs import (
    ROLE_MEANS,
    EndSessionsForm,
    LetInForm,
    NewLinkForm,
    NewMemberForm,
    PasswordForm,
    ResetFactorsForm,
    RoleForm,
    TakeOutForm,
    WithdrawForm,
    live_keys,
)
from access.members import TEXTS, edit_member, set_password, state_tag, take_out
from access.models import Invitation, Member
from access.once import once
from access.overtaken import expected_state
from access.reveal import Secret, reveal_in_dialog
from access.rules import Role
from access.second_factors import factors_of, reset_second_factors
from access.sessions import end_sessions
from audit import clock
from audit.links import entries_about, entries_by
from audit.moments import moment

ROLE_LABELS: Final = {"Admin": "primary", "Manager": "info", "Auditor": "default"}
STATES: Final = {
    "Active": "success",
    "Invited": "info",
    "Invitation expired": "warning",
    "Invitation withdrawn": "default",
    "Taken out": "danger",
}
# So many access keys a member's page lists, the newest first.
MOST_LISTED: Final = 10


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("invited", "Invited"), ("out", "Taken out")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        waiting = Q(is_active=False, password__startswith=UNUSABLE_PASSWORD_PREFIX, external_accounts__isnull=True)
        match self.value():
            case None | "":
                return queryset
            case "active":
                return queryset.filter(is_active=True)
            case "invited":
                return queryset.filter(waiting)
            case "out":
                return queryset.filter(~waiting, is_active=False)
            case _:
                return queryset.none()


@admin.register(Member)
class MemberAdmin(ConsoleAdmin[Member]):
    list_display = (
        "username",
        "full_name",
        "role_label",
        "state",
        "group_names",
        "access_key_count",
        "last_sign_in",
    )
    list_display_links = ("username",)
    list_filter = (("role", ChoicesDropdownFilter), StateFilter)
    search_fields = ("username", "name", "email")
    search_help_text = "Username, name or email address"
    ordering = ("username",)
    form = forms.ModelForm
    radio_fields: ClassVar[dict[str, Any]] = {"role": admin.VERTICAL}
    show_add_link = False
    change_form_before_template = "keys/form_token.html"
    change_form_outer_after_template = "console/member_keys.html"
    add_title = "Invite Member"
    add_button = "Invite and show the link"
    confirmed_only = True
    actions_list = ("create",)
    actions_row = (
        *("change_role", "new_link", "withdraw", "set_password", "end_sessions", "reset_factors"),
        *("let_in", "take_out"),
    )
    actions_detail = actions_row

    add_fieldsets = ((None, {"fields": ("username", "name", "email", "role", "manages")}),)
    fieldsets = (
        (None, {"fields": ("handle", "state", "role_label", "name", "email")}),
        ("What they did and hold", {"fields": ("date_joined_at", "last_sign_in", "ways_in", "groups", "audit_trail")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("handle", "state", "role_label", "date_joined_at", "last_sign_in", "ways_in", "groups", "audit_trail")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewMemberForm
        form_class = super().get_form(request, obj, change=change, **kwargs)
        if "role" in form_class.base_fields:
            form_class.base_fields["role"].help_text = " ".join(
                f"{role.label}: {means}" for role, means in ROLE_MEANS.items()
            )
        return form_class

    def get_queryset(self, request: HttpRequest) -> QuerySet[Member]:
        live = live_keys("access_keys__") & Q(access_keys__isnull=False)
        open_link = Invitation.objects.filter(OPEN, member=OuterRef("pk")).values("expires_at")
        members = (
            super()
            .get_queryset(request)
            .annotate(live_access_keys=Count("access_keys", filter=live), invited_until=Subquery(open_link[:1]))
        )
        # A relation of the house above, by its name (design §10).
        return members.prefetch_related(
            "managed_groups", "external_accounts", Prefetch("invitations", _open_links(), "open_links")
        )

    def offered_actions(self, request: HttpRequest, rows: Sequence[Member]) -> dict[Any, Collection[str]]:
        return {row.pk: _offered(row) for row in rows}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        member = self.get_object(request, object_id) if object_id is not None else None
        if member is not None:
            held = list(member.access_keys.order_by("-created_at")[: MOST_LISTED + 1])
            now = clock.now()
            extra_context = {
                **(extra_context or {}),
                "keys_held": [(access_key, access_key.status(now)) for access_key in held[:MOST_LISTED]],
                "more_keys_held": len(held) > MOST_LISTED,
                "member_shown": member,
            }
        return super().changeform_view(request, object_id, form_url, extra_context)

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:access_member_add")))

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[Member]) -> Member:
        given = form.cleaned_data
        with once(member=caller(request), path=request.path, token=given["form_token"]) as note:
            invited = invite_member(
                actor=request_actor(request),
                username=given["username"],
                role=given["role"],
                name=given["name"],
                email=given["email"],
                # Chosen, and then another role: the field is out of sight, and what is in it counts no more.
                groups=given["manages"] if given["role"] == Role.MANAGER else (),
            )
            note["id"] = str(invited.member.pk)
        self.show_once(request, self._link(request, invited))
        return invited.member

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[Member], obj: Member) -> Member:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in TEXTS}
        expected = expected_state(request)
        return edit_member(actor=request_actor(request), member_id=obj.pk, changed=changed, expected=expected)

    def tag_of(self, obj: Member) -> str:
        return state_tag(obj)

    @dialog_action(RoleForm, title="Change role", submit="Change role", icon="badge")
    def change_role(self, request: HttpRequest, form: RoleForm) -> HttpResponse:
        role = form.cleaned_data["role"]
        edit_member(actor=request_actor(request), member_id=form.obj.pk, changed={"role": role})
        return reload_page(request, f"{form.obj} is {Role(role).label} from now on.")

    @dialog_action(TakeOutForm, title="Take out", submit="Take out", icon="person_off")
    def take_out(self, request: HttpRequest, form: TakeOutForm) -> HttpResponse:
        ended = take_out(actor=request_actor(request), member_id=form.obj.pk)
        return reload_page(
            request,
            f"{form.obj} is out: {ended.sessions:,} session{'' if ended.sessions == 1 else 's'} ended, "
            f"{ended.access_keys:,} access key{'' if ended.access_keys == 1 else 's'} revoked.",
        )

    @dialog_action(LetInForm, title="Let in again", submit="Let in again", icon="login")
    def let_in(self, request: HttpRequest, form: LetInForm) -> HttpResponse:
        edit_member(actor=request_actor(request), member_id=form.obj.pk, changed={"is_active": True})
        return reload_page(request, f"{form.obj} may sign in again.")

    @dialog_action(NewLinkForm, title="New invitation link", submit="Make and show the link", icon="add_link")
    def new_link(self, request: HttpRequest, form: NewLinkForm) -> HttpResponse:
        invited = replace_invitation(actor=request_actor(request), member_id=form.obj.pk)
        return reveal_in_dialog(request, self._link(request, invited))

    @dialog_action(WithdrawForm, title="Withdraw invitation", submit="Withdraw", icon="link_off")
    def withdraw(self, request: HttpRequest, form: WithdrawForm) -> HttpResponse:
        withdraw_invitation(actor=request_actor(request), member_id=form.obj.pk)
        return reload_page(request, f"The invitation link of {form.obj} leads nowhere now.")

    def _link(self, request: HttpRequest, invited: Invited) -> Secret:
        """Return what shows the link: its secret stands after "#", and so reaches no server until it is used."""
        member = invited.member
        return Secret(
            title=f"{member} is invited",
            name=f"The invitation link of {member}",
            value=f"{request.build_absolute_uri(reverse('join'))}#{invited.secret}",
            usage="console/invitation_usage.html",
            # Nothing for a secret store: it goes to a person, once.
            variable="",
            noun="link",
            now="Give it to them now.",
            done_url=reverse(f"{self.admin_site.name}:access_member_changelist"),
            done_text="Done, I have the link",
            context={"member": member, "expires_at": invited.invitation.expires_at},
        )

    @dialog_action(PasswordForm, title="Set password", submit="Set password", icon="password")
    def set_password(self, request: HttpRequest, form: PasswordForm) -> HttpResponse:
        set_password(actor=request_actor(request), member_id=form.obj.pk, password=form.cleaned_data["new_password"])
        return reload_page(request, f"{form.obj} has a new password; their sessions have ended.")

    @dialog_action(EndSessionsForm, title="End sessions", submit="End all sessions", icon="logout", loud=False)
    def end_sessions(self, request: HttpRequest, form: EndSessionsForm) -> HttpResponse:
        ended = end_sessions(actor=request_actor(request), member_id=form.obj.pk)
        return reload_page(request, f"{ended:,} session{'' if ended == 1 else 's'} of {form.obj} ended.")

    @dialog_action(ResetFactorsForm, title="Reset second factors", submit="Reset", icon="mobile_off", loud=False)
    def reset_factors(self, request: HttpRequest, form: ResetFactorsForm) -> HttpResponse:
        reset_second_factors(actor=request_actor(request), member_id=form.obj.pk)
        return reload_page(request, f"{form.obj} has no second factor any more; their sessions have ended.")

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

    @display(description="State", label=STATES)
    def state(self, member: Any) -> str:
        if member.is_active:
            return "Active"
        if member.has_joined:
            return "Taken out"
        if member.invited_until is None:
            return "Invitation withdrawn"
        return "Invited" if member.invited_until > clock.now() else "Invitation expired"

    @display(description="Ways to sign in")
    def ways_in(self, member: Member) -> str:
        ways = ["password"] if member.has_usable_password() else []
        ways += [account.issuer for account in member.external_accounts.all()]
        factors = [f"{factor.name}{' (passkey)' if factor.is_passkey else ''}" for factor in factors_of(member)]
        return f"{', '.join(ways) or 'none'}; second factors: {', '.join(factors) or 'none'}"

    @display(description="Groups")
    def group_names(self, member: Any) -> str:
        if member.role != Role.MANAGER:
            return "—"
        if promised := _promised(member):
            return f"{', '.join(str(group) for group in promised)}, once they have joined"
        return ", ".join(str(group) for group in member.managed_groups.all()) or "those that name nobody"

    @display(description="Consumer groups that name them")
    def groups(self, member: Any) -> SafeString | str:
        page = f"{self.admin_site.name}:keys_consumergroup_change"
        promised = _promised(member)
        shown = promised or member.managed_groups.all()
        links = [(reverse(page, args=[group.pk]), str(group)) for group in shown]
        named = format_html_join(", ", '<a class="kt-link" href="{}">{}</a>', links) or "—"
        return format_html("{} once they have joined", named) if promised else named

    @display(description="Audit log")
    def audit_trail(self, member: Member) -> SafeString:
        return format_html(
            '<a class="kt-link" href="{}">Everything about {}</a> · <a class="kt-link" href="{}">Everything {} did</a>',
            entries_about("member", member.pk),
            member,
            entries_by(member.pk),
            member,
        )


def _open_links() -> QuerySet[Invitation]:
    """Open invitations with the groups that were chosen with them."""
    return Invitation.objects.filter(OPEN).prefetch_related("groups")


def _promised(member: Any) -> list[Any]:
    """Return the groups that are to name a Manager who has not joined yet."""
    if member.is_active or member.role != Role.MANAGER:
        return []
    return [group for link in member.open_links for group in link.groups.all()]


def _offered(member: Member) -> tuple[str, ...]:
    # Whoever signs in through the provider alone has no password to set.
    password = ("set_password",) if member.has_usable_password() else ()
    if member.is_active:
        return ("change_role", *password, "end_sessions", "reset_factors", "take_out")
    if member.has_joined:
        return ("change_role", *password, "let_in")
    link = ("withdraw",) if getattr(member, "invited_until", None) else ()
    return ("change_role", "new_link", *link)

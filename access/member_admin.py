"""Members in the console: who they are, their role, whether they may come in. Admins alone see this."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminRadioSelectWidget

from access.actors import caller, request_actor
from access.console import ConsoleAdmin
from access.dialogs import DialogForm, dialog_action, reload_page
from access.invitations import OPEN, Invited, invite_member, replace_invitation, withdraw_invitation
from access.kept_filters import keep_list_filters
from access.member_forms import add_password_errors, new_password, same_password
from access.members import NOT_JOINED, TEXTS, edit_member, set_password, take_out
from access.models import Invitation, Member
from access.once import TokenField, once
from access.reveal import Secret, reveal_in_dialog
from access.rules import Role
from access.second_factors import factors_of, has_second_factor, reset_second_factors
from access.sessions import end_sessions, sessions_of
from audit import clock
from audit.links import entries_about, entries_by
from audit.moments import moment

ROLE_LABELS: Final = {"Admin": "primary", "Manager": "info", "Auditor": "default"}
ROLE_MEANS: Final = {
    Role.ADMIN: "does everything.",
    Role.MANAGER: "creates, rotates and revokes keys of their groups, and sees no others.",
    Role.AUDITOR: "sees everything, exports and verifies, and changes nothing.",
}
STATES: Final = {
    "Active": "success",
    "Invited": "info",
    "Invitation expired": "warning",
    "Invitation withdrawn": "default",
    "Taken out": "danger",
}
# So many access keys a dialog names; of more it says how many.
MOST_NAMED: Final = 5
# So many access keys a member's page lists, the newest first.
MOST_LISTED: Final = 10


class NewMemberForm(forms.ModelForm[Member]):
    """Invites a member: they choose their password themselves."""

    form_token = TokenField()

    def validate_unique(self) -> None:
        """Leave a taken username to the verb: sent twice, this form is told that it was carried out, not that."""


class _MemberDialog(DialogForm):
    model = Member
    permission = "access.change_member"
    confirmed_only = True


class PasswordForm(_MemberDialog):
    """An Admin gives a member another password."""

    description = "All sessions of this member end. Tell them the new password by a safe way; they can change it."

    new_password = new_password()
    same_password = same_password()

    @property
    def conflict(self) -> str:
        return "" if self.obj.has_usable_password() else NOT_JOINED

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        add_password_errors(self, self.obj)
        return cleaned


class RoleForm(_MemberDialog):
    """An Admin gives a member another role."""

    description = "It holds from their next request on, in the console and with every access key of theirs."

    role = forms.ChoiceField(
        label="Role",
        choices=[(role.value, f"{role.label}: {ROLE_MEANS[role]}") for role in Role],
        widget=UnfoldAdminRadioSelectWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].initial = self.obj.role
        groups = self.obj.managed_groups.count()
        if groups:
            self.fields["role"].help_text = (
                f"{groups:,} consumer group{'s name' if groups > 1 else ' names'} them among the managers. That counts "
                "only while they are a Manager."
            )


class TakeOutForm(_MemberDialog):
    """An Admin takes a member out, and is told what ends with that."""

    destructive = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        member: Member = self.obj
        held = member.access_keys.filter(live_keys()).values_list("name", flat=True).order_by("name")
        names = list(held[: MOST_NAMED + 1])
        self.description = " ".join(
            [
                "At once: every session of theirs ends, and",
                _these_keys(names, held.count()) if names else "no access key is hit: they hold none.",
                "Gateway keys that they have created stay as they are, and so does what they did in the audit log.",
                "They can be let in again; revoked access keys stay revoked.",
            ]
        )

    @property
    def conflict(self) -> str:
        return "" if self.obj.is_active else "They are out already."


class LetInForm(_MemberDialog):
    description = "They sign in with the password that they had. Their access keys stay revoked: they create new ones."

    @property
    def conflict(self) -> str:
        if not self.obj.has_joined:
            return NOT_JOINED
        return "They are in already." if self.obj.is_active else ""


class NewLinkForm(_MemberDialog):
    description = "The new link is shown once and is valid for 7 days. An older one stops working at once."

    @property
    def conflict(self) -> str:
        return "They have joined already." if self.obj.has_joined else ""


class WithdrawForm(_MemberDialog):
    # As everything that only stops something.
    confirmed_only = False
    description = "The link stops working at once. They stay in the list, and can be invited again."
    destructive = True

    @property
    def conflict(self) -> str:
        return "They have joined already." if self.obj.has_joined else ""


class EndSessionsForm(_MemberDialog):
    confirmed_only = False
    description = "They are signed out everywhere at once, and can sign in again. Their access keys go on."
    destructive = True

    @property
    def conflict(self) -> str:
        return "" if sessions_of(self.obj) else "They are signed in nowhere."


class ResetFactorsForm(_MemberDialog):
    """An Admin helps a member who has lost phone and recovery codes."""

    description = (
        "Their authenticator app, passkeys and recovery codes are of no use any more, and their sessions end. Until "
        "they add a new one, the password alone lets them in: make sure that it is really they who ask."
    )
    destructive = True

    @property
    def conflict(self) -> str:
        return "" if has_second_factor(self.obj) else "They have no second factor."


def _these_keys(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    more = f" and {count - MOST_NAMED:,} more" if count > MOST_NAMED else ""
    return f"{count:,} access key{'s are' if count > 1 else ' is'} revoked for good: {shown}{more}."


def live_keys(prefix: str = "") -> Q:
    """Return the condition for access keys that are neither revoked nor expired."""
    absent = Q(**{f"{prefix}expires_at__isnull": True}) | Q(**{f"{prefix}expires_at__gt": clock.now()})
    return Q(**{f"{prefix}revoked_at__isnull": True}) & absent


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

    add_fieldsets = ((None, {"fields": ("username", "name", "email", "role")}),)
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
        return members.prefetch_related("managed_groups", "external_accounts")

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
            )
            note["id"] = str(invited.member.pk)
        self.show_once(request, self._link(request, invited))
        return invited.member

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[Member], obj: Member) -> Member:
        changed = {field: form.cleaned_data[field] for field in form.changed_data if field in TEXTS}
        return edit_member(actor=request_actor(request), member_id=obj.pk, changed=changed)

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
        return ", ".join(str(group) for group in member.managed_groups.all()) or "those that name nobody"

    @display(description="Consumer groups that name them")
    def groups(self, member: Any) -> SafeString | str:
        page = f"{self.admin_site.name}:keys_consumergroup_change"
        links = [(reverse(page, args=[group.pk]), str(group)) for group in member.managed_groups.all()]
        return format_html_join(", ", '<a class="kt-link" href="{}">{}</a>', links) or "—"

    @display(description="Audit log")
    def audit_trail(self, member: Member) -> SafeString:
        return format_html(
            '<a class="kt-link" href="{}">Everything about {}</a> · <a class="kt-link" href="{}">Everything {} did</a>',
            entries_about("member", member.pk),
            member,
            entries_by(member.pk),
            member,
        )


def _offered(member: Member) -> tuple[str, ...]:
    # Whoever signs in through the provider alone has no password to set.
    password = ("set_password",) if member.has_usable_password() else ()
    if member.is_active:
        return ("change_role", *password, "end_sessions", "reset_factors", "take_out")
    if member.has_joined:
        return ("change_role", *password, "let_in")
    link = ("withdraw",) if getattr(member, "invited_until", None) else ()
    return ("change_role", "new_link", *link)

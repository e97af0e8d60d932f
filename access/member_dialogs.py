"""The forms by which Admins invite members and change what they may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from django import forms
from django.apps import apps
from django.db.models import Q
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelect2MultipleWidget

from access.dialogs import DialogForm
from access.member_forms import add_password_errors, new_password, same_password
from access.members import NOT_JOINED
from access.models import Member
from access.once import TokenField
from access.rules import Role
from access.second_factors import has_second_factor
from access.sessions import sessions_of
from audit import clock

ROLE_MEANS: Final = {
    Role.ADMIN: "does everything.",
    Role.MANAGER: "creates, rotates and revokes keys of their groups, and sees no others.",
    Role.AUDITOR: "sees everything, exports and verifies, and changes nothing.",
}
# So many access keys a dialog names; of more it says how many.
MOST_NAMED: Final = 5


class NewMemberForm(forms.ModelForm[Member]):
    """Invites a member: they choose their password themselves."""

    form_token = TokenField()
    manages: forms.ModelMultipleChoiceField[Any] = forms.ModelMultipleChoiceField(
        label="Groups to manage",
        queryset=None,
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget(attrs={"data-shown-when": "role=manager"}),
        help_text="Once they have joined, these groups name them as a manager. A group that named nobody was every "
        "Manager's; from then on only they and the Admins manage it. None chosen: they manage the groups that name "
        "nobody.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A model of the house above, by its name (design §10).
        groups = apps.get_model("keys", "ConsumerGroup")._default_manager.order_by("name")
        cast("forms.ModelMultipleChoiceField[Any]", self.fields["manages"]).queryset = groups

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
                *_left_behind(member),
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


def _left_behind(member: Member) -> list[str]:
    # A relation of the house above, by its name (design §10).
    owned = member.owned_keys.usable().count()
    if not owned:
        return []
    words = "key that they answer for has" if owned == 1 else "keys that they answer for have"
    return [f"{owned:,} gateway {words} nobody then: the hygiene page lists them, to be given another owner."]


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

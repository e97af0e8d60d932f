"""The forms that create and edit a gateway key. They ask the same policy as the verbs: saving cannot fail late."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any, Final, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils import timezone
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from access.models import Member
from access.once import TokenField
from access.text import clean_text
from audit import clock
from audit.moments import duration, stamp, zone
from keys import policy
from keys.models import ConsumerGroup, GatewayKey, InstallationPolicy
from keys.networks import clean_networks
from keys.visibility import manages_group

PRESET_DAYS: Final = (30, 90)
CUSTOM: Final = "custom"
NEVER: Final = "never"
KEEP: Final = "keep"
_NO_RULES: Final = policy.rules_of(None, InstallationPolicy())


class GroupSelect(UnfoldAdminSelectWidget):
    """Carries what holds in each group to the browser, where it narrows the choice of expiry (key_form.js)."""

    # Given by the form: read once for all groups of a page.
    installation: InstallationPolicy

    def use_required_attribute(self, initial: Any) -> bool:
        """Say what Django says after it has asked the database for the first choice: whether that is an empty one."""
        empty_label = getattr(getattr(self.choices, "field", None), "empty_label", None)
        return not self.is_hidden and empty_label is not None

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        group = getattr(value, "instance", None)
        if group is not None:
            option["attrs"]["data-name"] = group.name
        rules = policy.rules_of(group, self.installation)
        # Of an unscoped key's, only where there are any: most installations have none.
        if group is not None or rules != _NO_RULES:
            option["attrs"]["data-rules"] = "\n".join(policy.in_words(rules))
        option["attrs"]["data-max-days"] = rules.max_lifetime.value if rules.max_lifetime else ""
        option["attrs"]["data-default-days"] = rules.proposed_days or ""
        option["attrs"]["data-expiry-required"] = "yes" if rules.needs_expiry else ""
        return option


class NetworksField(forms.CharField):
    """Networks in CIDR notation, one a line or separated by commas."""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            label="Allowed networks",
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "10.0.0.0/8\n2001:db8::/32"}),
            help_text="CIDR, IPv4 or IPv6, one a line. Empty: from wherever its policy allows.",
        )

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return str(value or "").replace(",", "\n").split()

    def clean(self, value: Any) -> Any:
        try:
            return clean_networks(self.to_python(value))
        except ValidationError as error:
            # The field shows its own error; the verb names the field for those who have several.
            raise ValidationError(error.messages) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


class KeyForm(forms.ModelForm[GatewayKey]):
    """What creating and editing have in common. `expires_at` in cleaned_data is what the choice means."""

    expiry = forms.ChoiceField(label="Expires", widget=UnfoldAdminSelectWidget)
    expires_on = forms.DateField(
        label="Expires on",
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": " ".join(INPUT_CLASSES)}),
    )
    allowed_networks = NetworksField()

    # Given by the screen: who is signed in, whether they manage every group, and the installation's policy.
    member: Member
    everywhere: bool
    installation: InstallationPolicy

    class Meta:
        model = GatewayKey
        fields = ("name", "description", "consumer_group", "owner", "allowed_networks")
        widgets = {
            "name": UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "placeholder": "billing-service"}),
            "description": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        }

    class Media:
        js = ("keeptrusts/key_form.js",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = clock.now()
        everywhere = self.everywhere
        self.fields["consumer_group"] = forms.ModelChoiceField(
            queryset=self._groups(),
            required=not everywhere,
            empty_label="All groups (unscoped)" if everywhere else "Choose a group",
            widget=GroupSelect,
            initial=self.instance.consumer_group_id,
            help_text="The key is accepted for this group's traffic alone."
            if not everywhere
            else "The key is accepted for this group's traffic alone; unscoped, for traffic of every group.",
        )
        cast(GroupSelect, self.fields["consumer_group"].widget).installation = self.installation
        self.fields["owner"] = forms.ModelChoiceField(
            queryset=self._owners(),
            required=False,
            empty_label="Nobody",
            widget=UnfoldAdminSelectWidget,
            initial=self.instance.owner_id,
            help_text="Who answers for the key, and is asked before it is revoked.",
        )
        self.fields["name"].help_text = "The application that it is given to."
        self.fields["expires_on"].help_text = f"The key works until the end of this day, {zone()}."
        self.fields["expires_on"].widget.attrs["min"] = timezone.localdate(now).isoformat()
        cast(forms.ChoiceField, self.fields["expiry"]).choices = self._choices(now)

    def _groups(self) -> QuerySet[ConsumerGroup]:
        """Return the groups to choose from: a Manager sees those that they manage, and an Admin all."""
        return self.member.visible(ConsumerGroup.objects.all())

    def _owners(self) -> QuerySet[Member]:
        """Return who may be named: active members, and who is the owner now, though they were taken out."""
        members: QuerySet[Member] = Member.objects.filter(Q(is_active=True) | Q(pk=self.instance.owner_id))
        return members.order_by("username")

    def _choices(self, now: datetime) -> list[tuple[str, str]]:
        dates = {days: timezone.localdate(now + timedelta(days=days)) for days in PRESET_DAYS}
        presets = [(str(days), f"In {days} days, {date}") for days, date in dates.items()]
        return [*presets, (CUSTOM, "On a date …"), (NEVER, "Never, until it is revoked")]

    def clean_name(self) -> str:
        return self._clean_text("name", limit=100, required=True)

    def clean_description(self) -> str:
        return self._clean_text("description", limit=2_000, lines=True)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        now, group = clock.now(), cleaned["consumer_group"]
        if not manages_group(self.member, group):
            self.add_error("consumer_group", "Only who manages every group may manage an unscoped key.")
        rules = policy.rules_of(group)
        try:
            cleaned["expires_at"] = expires_at = self._expires_at(cleaned, rules, now)
            if self._policy_asked(cleaned):
                policy.check_expiry(expires_at, rules, now)
        except ValidationError as error:
            # At the field where the member can mend it.
            field = "expires_on" if cleaned["expiry"] == CUSTOM else "expiry"
            self.add_error(field, error.messages)
        try:
            if self._networks_asked(cleaned):
                policy.check_networks(cleaned["allowed_networks"], rules)
        except ValidationError as error:
            self.add_error("allowed_networks", error.messages)
        return cleaned

    def _networks_asked(self, cleaned: dict[str, Any]) -> bool:
        return True

    def _policy_asked(self, cleaned: dict[str, Any]) -> bool:
        return True

    def _expires_at(self, cleaned: dict[str, Any], rules: policy.Rules, now: datetime) -> datetime | None:
        match cleaned["expiry"]:
            case "never":
                return None
            case "keep":
                return self.instance.expires_at
            case "custom":
                if cleaned["expires_on"] is None:
                    raise ValidationError("Choose the date.")
                return end_of_day(cleaned["expires_on"], rules, now)
            case days:
                return now + timedelta(days=int(days))

    def _clean_text(self, field: str, **limits: Any) -> str:
        try:
            return clean_text(self.cleaned_data[field], field=field, **limits)
        except ValidationError as error:
            raise ValidationError(error.messages) from error


class CreateKeyForm(KeyForm):
    form_token = TokenField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["expiry"].initial = "90"
        self.fields["owner"].initial = self.member.pk


class EditKeyForm(KeyForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["expiry"].initial = KEEP
        if self.instance.expires_at is not None:
            self.fields["expires_on"].initial = timezone.localdate(self.instance.expires_at)

    def _choices(self, now: datetime) -> list[tuple[str, str]]:
        expires_at = self.instance.expires_at
        if expires_at is None:
            return [(KEEP, "Never, as it is now"), *(c for c in super()._choices(now) if c[0] != NEVER)]
        kept = f"{stamp(expires_at)}, as it is now"
        return [(KEEP, f"{kept} (in {duration(expires_at - now)})"), *super()._choices(now)]

    def _policy_asked(self, cleaned: dict[str, Any]) -> bool:
        return self._moved(cleaned) or cleaned["expiry"] != KEEP

    def _networks_asked(self, cleaned: dict[str, Any]) -> bool:
        return self._moved(cleaned) or cleaned["allowed_networks"] != self.instance.allowed_networks

    def _moved(self, cleaned: dict[str, Any]) -> bool:
        group = cleaned["consumer_group"]
        return bool((group.pk if group else None) != self.initial.get("consumer_group"))

    def changed(self) -> dict[str, Any]:
        """Return what the verb is to change: an expiry that is kept is not named, so that nothing sets it anew."""
        names = ["name", "description", "consumer_group", "owner", "allowed_networks"]
        if self.cleaned_data["expiry"] != KEEP:
            names.append("expires_at")
        return {name: self.cleaned_data[name] for name in names}


def end_of_day(day: date, rules: policy.Rules, now: datetime) -> datetime:
    """Return the last second of `day` in the current zone; on the last day that the policy allows, its last instant."""
    end = timezone.make_aware(datetime.combine(day, time(23, 59, 59)))
    latest = now + timedelta(days=rules.most_days)
    return latest if end > latest and timezone.localdate(latest) == day else end

"""The dialogs that stand before every change of a key's state."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, cast

from django import forms
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanWidget,
)

from access.dialogs import DialogForm
from access.once import TokenField
from audit import clock
from audit.moments import duration, stamp, zone
from keys import policy
from keys.models import GatewayKey
from keys.offers import PERMISSIONS, why_not

CUSTOM: Final = "custom"
GRACES: Final = (timedelta(0), timedelta(hours=1), timedelta(hours=24), timedelta(days=7))


# The longest step is the policy's ceiling, where there is one.
EXTENSIONS: Final = tuple(timedelta(hours=hours) for hours in (1, 4, 24, 48, 7 * 24, 14 * 24, 30 * 24))


class KeyDialog(DialogForm):
    """A dialog about one key. verb: one of keys.offers.VERBS."""

    model = GatewayKey
    verb: ClassVar[str]
    obj: GatewayKey

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.permission = PERMISSIONS[cls.verb]

    @property
    def conflict(self) -> str:
        return why_not(self.verb, self.obj, clock.now())


class RotateForm(KeyDialog):
    verb = "rotate"
    description = "Makes a new value, which you are shown once. The old value stays accepted for as long as you say."

    form_after_template = "keys/rotate_when.html"

    form_token = TokenField()
    grace = forms.ChoiceField(label="The old value stays accepted", widget=UnfoldAdminSelectWidget)
    custom_minutes = forms.IntegerField(
        label="Minutes",
        required=False,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"data-shown-when": "grace=custom"}),
    )
    renew_expiry = forms.BooleanField(
        label="Renew the expiry", required=False, initial=True, widget=UnfoldBooleanWidget
    )

    def __init__(self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.rules = rules = policy.rules_of(self.obj.consumer_group)
        longest = policy.longest_grace(rules)
        default = policy.chosen_grace(None, rules)
        offered = sorted({grace for grace in (*GRACES, default) if grace <= longest})
        self.spans = offered
        choices = [(str(_seconds(span)), _said(span)) for span in offered]
        if longest > timedelta(0):
            choices.append((CUSTOM, "For another time …"))
        grace = cast(forms.ChoiceField, self.fields["grace"])
        grace.choices = choices
        grace.initial = str(_seconds(default))
        if rules.max_grace is not None:
            grace.help_text = f"{rules.max_grace.of} allows at most {_span(longest)}."
        self.fields["custom_minutes"].help_text = f"At most {self._most_minutes():,}."
        if self.obj.lifetime is None:
            del self.fields["renew_expiry"]
        else:
            renewed = policy.renewed_expiry(self.obj.lifetime, rules, clock.now())
            self.fields["renew_expiry"].help_text = f"To {stamp(renewed)}, the key's lifetime from now."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("grace") == CUSTOM and "custom_minutes" in cleaned:
            minutes, most = cleaned["custom_minutes"], self._most_minutes()
            if minutes is None:
                self.add_error("custom_minutes", "Say how many minutes.")
            elif minutes > most:
                self.add_error("custom_minutes", f"At most {most:,} minutes.")
        return cleaned

    def get_after_template_context(self, request: HttpRequest, object_id: int | str | None = None) -> dict[str, Any]:
        now, expires_at = clock.now(), self.obj.expires_at
        if expires_at is not None and self.obj.lifetime is not None and self["renew_expiry"].value():
            expires_at = policy.renewed_expiry(self.obj.lifetime, self.rules, now)
        said = [(str(_seconds(span)), _what_happens(self.obj.hint, span, expires_at, now)) for span in self.spans]
        chosen, latest = str(self["grace"].value()), expires_at.isoformat() if expires_at else ""
        zone_name, names = timezone.get_current_timezone_name(), _zone_names(now)
        return {
            **{"hint": self.obj.hint, "chosen": chosen, "latest": latest, "sentences": said},
            **{"zone_name": zone_name, "zone_names": json.dumps(names)},
        }

    def _most_minutes(self) -> int:
        return policy.longest_grace(self.rules) // timedelta(minutes=1)

    @property
    def chosen_grace(self) -> timedelta:
        chosen = self.cleaned_data["grace"]
        if chosen == CUSTOM:
            return timedelta(minutes=self.cleaned_data["custom_minutes"])
        return timedelta(seconds=int(chosen))


class ExtendGraceForm(KeyDialog):
    verb = "extend_grace"
    description = "Every older value that is still accepted stays so for longer, counted from now."

    grace = forms.ChoiceField(label="The old value stays accepted", widget=UnfoldAdminSelectWidget)

    def __init__(self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        now, stands, expires_at = clock.now(), self.obj.grace_until, self.obj.expires_at
        rules = policy.rules_of(self.obj.consumer_group)
        ceiling = policy.longest_grace(rules)
        offered = [span for span in sorted({*EXTENSIONS, ceiling}) if span <= ceiling]
        ends = {span: min(now + span, expires_at) if expires_at else now + span for span in offered}
        # Later only; and of those that the key's expiry cuts to the same end, the first.
        later = {end: span for span, end in reversed(ends.items()) if stands is None or end > stands}
        grace = cast(forms.ChoiceField, self.fields["grace"])
        grace.choices = [(str(_seconds(span)), _until(end, now)) for end, span in sorted(later.items())]
        self.none_offered = not later
        if stands is not None and stands > now:
            grace.help_text = f"As it stands, until {stamp(stands)}. {_at_most(rules)}"

    @property
    def conflict(self) -> str:
        if super().conflict or not self.none_offered:
            return super().conflict
        return "The old value is accepted for as long already as the group's policy and the key's expiry allow."

    @property
    def chosen_grace(self) -> timedelta:
        return timedelta(seconds=int(self.cleaned_data["grace"]))


class EndGraceForm(KeyDialog):
    verb = "end_grace"
    description = "Every older value of this key is refused from now on. Whoever still uses one is locked out at once."
    destructive = True
    form_before_template = "keys/grace_still_used.html"

    def get_before_template_context(self, request: HttpRequest, object_id: int | str | None = None) -> dict[str, Any]:
        return {
            "key": self.obj,
            "versions": self.obj.versions.filter(valid_until__gt=clock.now()).select_related("metrics"),
        }


class DisableForm(KeyDialog):
    verb = "disable"
    description = "The key is refused from now on, until it is enabled again. Its expiry and grace run on meanwhile."
    destructive = True


class EnableForm(KeyDialog):
    verb = "enable"
    description = "The key is accepted again, with the value that its application has."


class RevokeForm(KeyDialog):
    verb = "revoke"
    description = "Every value of this key is refused for good. This cannot be undone: the way back is a new key."
    destructive = True
    form_before_template = "keys/revoke_last_use.html"

    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "Kept with the key and in the audit log"}),
    )

    def get_before_template_context(self, request: HttpRequest, object_id: int | str | None = None) -> dict[str, Any]:
        return {"key": self.obj}


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def _span(span: timedelta) -> str:
    # 24 hours are called that, not "1 day": it is what people say of a grace period.
    return "24 hours" if span == timedelta(hours=24) else duration(span)


def _what_happens(hint: str, grace: timedelta, expires_at: datetime | None, now: datetime) -> str:
    """Say in times what a rotation with this grace will do to the old value."""
    if not grace:
        return f"The old value {hint} is refused at once, everywhere. Whoever still sends it is locked out."
    end = min(now + grace, expires_at) if expires_at else now + grace
    said = f"The old value {hint} is accepted until {stamp(end)}, in {_span(end - now)}, and refused from then on."
    return f"{said} That is when the key expires." if end < now + grace else said


def _until(end: datetime, now: datetime) -> str:
    return f"Until {stamp(end)}, in {_span(end - now)}"


def _at_most(rules: policy.Rules) -> str:
    if rules.max_grace is None:
        return ""
    return f"{rules.max_grace.of} allows at most {_span(policy.longest_grace(rules))} from now."


def _said(span: timedelta) -> str:
    return f"For {_span(span)}" if span else "Not at all: refused at once"


def _zone_names(now: datetime) -> dict[int, str]:
    """Return what the member's zone is called by its minutes ahead of UTC, within the year that a grace may last."""
    times = (timezone.localtime(now + timedelta(days=days)) for days in range(0, 372, 4))
    return {int(offset / timedelta(minutes=1)): zone(at) for at in times if (offset := at.utcoffset()) is not None}

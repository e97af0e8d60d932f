"""What the forms of a policy have in common: they show which keys a change would break before it is made."""

from __future__ import annotations

import json
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextareaWidget

from access.console import add_errors
from keys.bulk import MOST_AT_ONCE
from keys.models import GatewayKey, PolicyFields
from keys.networks import clean_networks
from keys.policy import POLICY
from keys.policy_impact import ExistingKeys, Impact

# Of so many keys that stayed as they are it is said why; Hygiene lists all.
TOLD: Final = 10


class NetworksField(forms.CharField):
    """Networks, one a line, as the list of text that the models keep."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        lines = value.splitlines() if isinstance(value, str) else value or []
        try:
            return clean_networks(line for line in lines if line.strip())
        except ValidationError as error:
            raise ValidationError(error.messages, code="invalid_network") from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(list(initial or []) != self.to_python(data))
        except ValidationError:
            return True


class PolicyForm[M: PolicyFields](forms.ModelForm[M]):
    """A form that is not valid before it was said what is to become of the keys that it breaks.

    impact: those keys, once it was sent and nothing else is wrong with it; `keys/policy_impact.html` shows them.
    """

    existing_keys = forms.ChoiceField(
        choices=[("", ""), *((one.value, one.value) for one in ExistingKeys)], required=False, widget=forms.HiddenInput
    )
    # The rules for which the keys were shown: with other ones they are shown again.
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    impact: Impact | None = None

    def impact_of(self, changed: dict[str, Any]) -> Impact:
        """Return which keys these rules would break; ValidationError where they may not be."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        default, most = (self.cleaned_data.get(field) for field in ("default_lifetime_days", "max_lifetime_days"))
        if default is not None and most is not None and default > most:
            # At the field: what the database's constraint would say is its name.
            error = ValidationError("This is longer than the maximum lifetime.", code="above_maximum")
            self.add_error("default_lifetime_days", error)
        if not self.errors and self.instance.pk is not None:
            self._look_at_keys()
        return cleaned

    def _look_at_keys(self) -> None:
        rules: dict[str, Any] = {field: self.cleaned_data[field] for field in POLICY if field in self.changed_data}
        try:
            self.impact = self.impact_of(rules)
        except ValidationError as error:
            add_errors(self, error)
            return
        seen, self.rules = self.cleaned_data["shown"], json.dumps(rules, sort_keys=True)
        if self.impact.count and (not self.cleaned_data["existing_keys"] or seen != self.rules):
            message = "Nothing was changed yet: look at the keys that this would affect, and say what becomes of them."
            self.add_error(None, ValidationError(message, code="policy_breaks_keys"))

    # What `shown` is to say.
    rules: str = ""


def tell_alignment(request: HttpRequest, policy: PolicyFields) -> None:
    """Say what became of the keys that were to be brought into line."""
    results = policy.alignment
    if results is None:
        return
    done = sum(result.error is None for result in results)
    if done:
        messages.success(request, f"{_keys(done)} brought into line.")
    left = [result for result in results if result.error is not None][:TOLD]
    names = dict(GatewayKey.objects.filter(pk__in=[result.key_id for result in left]).values_list("pk", "name"))
    for result in left:
        messages.warning(request, f"{names[result.key_id]} was left as it is: {result.why_not}")
    if len(results) >= MOST_AT_ONCE:
        messages.info(request, "So many at once. The others are under Hygiene, “Breaches policy”.")


def _keys(count: int) -> str:
    return "1 key was" if count == 1 else f"{count:,} keys were"

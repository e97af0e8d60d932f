"""The page of the installation's policy: everybody reads it, Admins edit it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldBooleanSwitchWidget

from access.actors import caller, request_actor
from access.console import add_errors
from access.overtaken import NOT_SAVED, Overtaken, expected_state, known_state, overtaken
from access.pages import console_page, page_context
from access.preconditions import PreconditionFailed
from access.refusals import Conflict, Forbidden, record_refusal
from audit import clock
from audit.links import entries_link
from keys.breaches import in_breach
from keys.hygiene import CONCERNS
from keys.installation import PERMISSION, edit_policy, impact_of_edit, state_tag
from keys.models import GatewayKey, InstallationPolicy
from keys.policy import POLICY, Policies, in_words, installation_policy, rules_of
from keys.policy_forms import NetworksField, PolicyForm, tell_alignment
from keys.policy_impact import Impact

_NUMBERS = ("default_lifetime_days", "max_lifetime_days", "max_grace_seconds", "idle_days")


class InstallationForm(PolicyForm[InstallationPolicy]):
    allowed_networks = NetworksField(
        required=False,
        help_text="One network a line, such as 10.0.0.0/8 or 2001:db8::/32. None: from anywhere. Groups and keys may "
        "narrow this further, never widen it.",
    )

    class Meta:
        model = InstallationPolicy
        fields = POLICY
        widgets = {
            **dict.fromkeys(_NUMBERS, UnfoldAdminIntegerFieldWidget),
            "expiry_required": UnfoldBooleanSwitchWidget,
        }

    def impact_of(self, changed: dict[str, Any]) -> Impact:
        return impact_of_edit(changed)


@console_page("policy/", name="policy", permission="keys.view_installationpolicy")
def policy_page(request: HttpRequest) -> HttpResponse:
    """Show the policy with its form; carry out what was sent, once it was said what becomes of the keys it breaks."""
    member = caller(request)
    missed: Overtaken | None = None
    if request.method == "POST":
        if not member.may(PERMISSION):
            raise Forbidden(PERMISSION)
        form = InstallationForm(request.POST, instance=installation_policy())
        try:
            if form.is_valid() and _carried_out(request, form):
                return HttpResponseRedirect(reverse("admin:policy"))
        except PreconditionFailed as failed:
            missed = overtaken(request, failed)
            form.add_error(None, ValidationError(NOT_SAVED, code="precondition_failed"))
    else:
        form = InstallationForm(instance=installation_policy())
    now, policies = clock.now(), Policies.load()
    standing = policies.installation
    context = page_context(
        request,
        "Policy",
        form=form if member.may(PERMISSION) else None,
        known_state=known_state(request, standing, state_tag(standing)),
        overtaken=missed,
        rules=in_words(rules_of(None, standing)),
        in_breach=member.visible(GatewayKey.objects.filter(in_breach(policies, now))).count(),
        breach_link=CONCERNS["breaches_policy"].link,
        entries=entries_link("policy", "") if member.may("audit.view_auditentry") else "",
    )
    return TemplateResponse(request, "keys/policy.html", context)


def _carried_out(request: HttpRequest, form: InstallationForm) -> bool:
    """Let the verb do what the form says; False where it refuses, and the form tells why.

    Errors: PreconditionFailed where somebody else has changed the policy since the form was shown.
    """
    actor = request_actor(request)
    changed = {field: form.cleaned_data[field] for field in form.changed_data if field in POLICY}
    try:
        choice, expected = form.cleaned_data["existing_keys"] or None, expected_state(request)
        policy = edit_policy(actor=actor, changed=changed, existing_keys=choice, expected=expected)
    except ValidationError as error:
        add_errors(form, error)
        return False
    except Conflict as conflict:
        record_refusal(actor, conflict)
        form.add_error(None, conflict.detail)
        return False
    messages.success(request, "The policy was changed." if changed else "Nothing was changed.")
    if policy.narrowing is not None and (words := policy.narrowing.told("In force")):
        messages.info(request, f"{words}.")
    tell_alignment(request, policy)
    return True

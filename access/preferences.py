"""What a member sets for themselves: the zone in which times are shown to them, and what is mailed to them."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import available_timezones

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelectWidget

from access.actors import caller, request_actor
from access.members import set_preferences
from access.models import Member
from access.pages import console_page, page_context


class PreferencesForm(forms.Form):
    time_zone = forms.ChoiceField(
        label="Time zone",
        widget=UnfoldAdminSelectWidget,
        help_text="In which times are shown to you. Each says its zone, and the exact time in UTC when you point at "
        "it; files and the API always speak UTC.",
    )

    notice_mail = forms.ChoiceField(
        label="Notices by mail",
        choices=cast("Any", Member._meta.get_field("notice_mail").choices),
        # Left out, it stays as it is.
        required=False,
        widget=UnfoldAdminRadioSelectWidget,
        help_text="About the keys that you own or whose group you manage. What needs attention: expiring and expired, "
        "disabled, revoked, idle, used after revocation, the end of grace, and what is wrong with the console itself. "
        "It goes to the address that an Admin has given for you.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = sorted(available_timezones() - {"UTC", "localtime"})
        choices = [(name, name.replace("_", " ")) for name in ("UTC", *others)]
        cast(forms.ChoiceField, self.fields["time_zone"]).choices = choices


@console_page("preferences/", name="preferences")
def preferences(request: HttpRequest) -> HttpResponse:
    """Show the form, or keep what was chosen."""
    member = caller(request)
    chosen = {"time_zone": member.time_zone, "notice_mail": member.notice_mail}
    form = PreferencesForm(request.POST or None, initial=chosen)
    if request.method == "POST" and form.is_valid():
        zone = form.cleaned_data["time_zone"]
        mail = form.cleaned_data["notice_mail"] or member.notice_mail
        changed = {"time_zone": zone, "notice_mail": mail}
        set_preferences(actor=request_actor(request), member_id=member.pk, changed=changed)
        said = Member._meta.get_field("notice_mail").flatchoices
        words = f"Times are shown to you in {zone.replace('_', ' ')} from now on. Notices by mail: {dict(said)[mail]}."
        messages.success(request, words)
        return HttpResponseRedirect(reverse("admin:preferences"))
    return TemplateResponse(request, "console/preferences.html", page_context(request, "Preferences", form=form))

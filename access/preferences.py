"""What a member sets for themselves: the zone in which times are shown to them."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import available_timezones

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminSelectWidget

from access.actors import caller, request_actor
from access.members import set_time_zone
from access.pages import console_page, page_context


class PreferencesForm(forms.Form):
    time_zone = forms.ChoiceField(
        label="Time zone",
        widget=UnfoldAdminSelectWidget,
        help_text="In which times are shown to you. Each says its zone, and the exact time in UTC when you point at "
        "it; files and the API always speak UTC.",
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
    form = PreferencesForm(request.POST or None, initial={"time_zone": member.time_zone})
    if request.method == "POST" and form.is_valid():
        zone = form.cleaned_data["time_zone"]
        set_time_zone(actor=request_actor(request), member_id=member.pk, time_zone=zone)
        messages.success(request, f"Times are shown to you in {zone.replace('_', ' ')} from now on.")
        return HttpResponseRedirect(reverse("admin:preferences"))
    return TemplateResponse(request, "console/preferences.html", page_context(request, "Preferences", form=form))

"""The pages on which a member cleans up: what needs attention, what a bulk fix would do, and what it did, key by key.

The list's bulk actions lead to the same preview. Nothing is changed before somebody has seen what would be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from access.actors import caller
from access.console import add_errors
from access.models import Member
from access.pages import console_page, page_context
from audit import clock
from keys import attention, bulk, hygiene  # noqa: F401  # the dashboard's part registers itself
from keys.alignment import Align
from keys.bulk import Fix, Plan
from keys.fix_results import carry_out
from keys.key_lists import keys_of_page
from keys.models import MOST_DAYS, ConsumerGroup, GatewayKey, GatewayKeyQuerySet
from keys.offers import PERMISSIONS

# What a plan looks at of each key: fetched once for all keys that share it, which takes half as long as joined.
RELATED: Final = ("consumer_group", "owner")
# So many keys of a preview stand in its table.
SHOWN: Final = 50


class FixForm(forms.Form):
    """The particulars of a fix. member: who is signed in."""

    def __init__(self, *args: Any, member: Member, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.member = member


class ReasonForm(FixForm):
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "Kept with every key and in the audit log"}),
    )


class DaysForm(FixForm):
    days = forms.IntegerField(
        label="Expires in (days)",
        min_value=1,
        max_value=MOST_DAYS,
        initial=90,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Counted from now. Where the policy of a key's group allows less, that is taken.",
    )


class OwnerForm(FixForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["owner"] = forms.ModelChoiceField(
            label="Owner",
            queryset=Member.objects.active().order_by("username"),
            initial=self.member.pk,
            empty_label=None,
            widget=UnfoldAdminSelectWidget,
            help_text="Who answers for these keys from now on.",
        )


class GroupForm(FixForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["group"] = forms.ModelChoiceField(
            label="Consumer group",
            queryset=self.member.visible(ConsumerGroup.objects.all()),
            empty_label="Choose a group",
            widget=UnfoldAdminSelectWidget,
            help_text="The keys are accepted for this group's traffic alone from then on.",
        )


@dataclass(frozen=True, slots=True)
class FixPage:
    """A bulk fix as it is offered. words: what it does to "{keys}". previewed: whether its particulars decide what
    a key would become, so that other ones need another look.
    """

    slug: str
    title: str
    words: str
    warning: str
    icon: str
    verb: str
    form: type[FixForm]
    make: Callable[[Mapping[str, Any]], Fix]
    previewed: bool = False
    destructive: bool = False

    @property
    def url(self) -> str:
        return reverse(f"admin:hygiene_{self.slug}")

    def button(self, count: int) -> str:
        return self.words.format(keys=_keys(count))


FIXES: Final = {
    fix.slug: fix
    for fix in (
        FixPage(
            "set-expiry",
            "Set an expiry",
            "Set the expiry of {keys}",
            "From then on they are refused. Rotating a key renews its expiry by the same span.",
            "event",
            "edit",
            DaysForm,
            lambda given: bulk.SetExpiry(given["days"]),
            previewed=True,
        ),
        FixPage(
            "owner",
            "Give another owner",
            "Change the owner of {keys}",
            "The owner answers for a key and is asked before it is revoked; it decides nothing about traffic.",
            "person",
            "edit",
            OwnerForm,
            lambda given: bulk.ChangeOwner(given["owner"]),
            previewed=True,
        ),
        FixPage(
            "scope",
            "Scope to a group",
            "Scope {keys} to this group",
            "Requests of other groups are refused with these keys from then on: look at where they are used first.",
            "groups",
            "edit",
            GroupForm,
            lambda given: bulk.Scope(given["group"]),
            previewed=True,
        ),
        FixPage(
            "align",
            "Bring into line",
            "Bring {keys} into line",
            "A missing or later expiry becomes the one that is allowed, a grace is cut short, networks are narrowed.",
            "rule",
            "edit",
            FixForm,
            lambda given: Align(),
        ),
        FixPage(
            "end-grace",
            "End grace",
            "End the grace of {keys}",
            "Who still presents an old value is refused at once; the current values stay accepted.",
            "timer_off",
            "end_grace",
            FixForm,
            lambda given: bulk.EndGrace(),
            destructive=True,
        ),
        FixPage(
            "disable",
            "Disable",
            "Disable {keys}",
            "They are refused until somebody enables them again, which is possible at any time.",
            "pause_circle",
            "disable",
            FixForm,
            lambda given: bulk.Disable(),
            destructive=True,
        ),
        FixPage(
            "revoke",
            "Revoke",
            "Revoke {keys} for good",
            "Every value of them is refused for good. This cannot be undone: the way back is a new key.",
            "block",
            "revoke",
            ReasonForm,
            lambda given: bulk.Revoke(given.get("reason", "")),
            destructive=True,
        ),
    )
}


@console_page("hygiene/", name="hygiene", permission="keys.view_gatewaykey")
def hygiene_page(request: HttpRequest) -> HttpResponse:
    """Show, for each concern, how many keys it fits, the first of them, and what may be done."""
    member = caller(request)
    found = hygiene.survey(_visible(member), clock.now(), list(hygiene.CONCERNS.values()))
    sections = [
        (one, [FIXES[slug] for slug in one.concern.fixes if member.may(PERMISSIONS[FIXES[slug].verb])]) for one in found
    ]
    context = page_context(
        request,
        "Hygiene",
        sections=[section for section in sections if section[0].count],
        clean=[one for one in found if not one.count],
        looks_only=not member.may("keys.change_gatewaykey"),
    )
    return TemplateResponse(request, "keys/hygiene.html", context)


def fix_page(request: HttpRequest, fix: FixPage) -> HttpResponse:
    """Show what a fix would do to the keys of a concern, or to those that were shown; do what was confirmed."""
    member = caller(request)
    if request.method != "POST":
        return _preview_of_concern(request, fix, request.GET.get("concern", ""))
    ids, skipped = _ids(request.POST.get("ids", "")), _ids(request.POST.get("skipped", ""))
    back = _back(request, request.POST.get("back", ""))
    form = fix.form(request.POST, member=member)
    confirmed = request.POST.get("step") == "apply" and len(ids) <= bulk.MOST_AT_ONCE
    if confirmed and form.is_valid() and (not fix.previewed or _shown(form) == request.POST.get("shown")):
        try:
            made = fix.make(form.cleaned_data)
        except ValidationError as error:
            add_errors(form, error)
        else:
            left, token = skipped[: bulk.MOST_AT_ONCE], _token(request.POST.get("form_token", ""))
            return carry_out(request, made, ids, left, title=fix.title, back=back, token=token)
    keys = list(_visible(member).filter(pk__in=[*ids, *skipped][: bulk.MOST_AT_ONCE]).prefetch_related(*RELATED))
    keys.sort(key=lambda key: (key.name, key.pk))
    return preview_page(request, fix, keys, back=back, form=form, anew=confirmed and form.is_valid())


for _fix in FIXES.values():
    console_page(f"hygiene/{_fix.slug}/", name=f"hygiene_{_fix.slug}", permission=PERMISSIONS[_fix.verb])(
        partial(fix_page, fix=_fix)
    )


def preview_page(
    request: HttpRequest,
    fix: FixPage,
    keys: Sequence[GatewayKey],
    *,
    back: str,
    is_start: bool = False,
    form: FixForm | None = None,
    anew: bool = False,
) -> HttpResponse:
    """Return the page that shows what `fix` would do to each of `keys`, and changes nothing.

    back: the address to return to. is_start: whether these are the first of more keys. form: what was given, if
    anything was. anew: whether this was to be confirmed, with other particulars than those seen.
    """
    member = caller(request)
    form = form or fix.form(member=member)
    plans = _plans(member, fix, form, keys)
    doable = [plan for plan in plans or [] if not plan.why_not]
    skipped = [plan for plan in plans or [] if plan.why_not]
    prefetch_related_objects([plan.key for plan in doable[:SHOWN]], "metrics")
    context = page_context(
        request,
        fix.title,
        fix=fix,
        form=form,
        keys=keys,
        doable=doable,
        skipped=skipped,
        # A long page is slow to make and to read: of the many more, each is named in a line of its own.
        first=doable[:SHOWN],
        others=_lines(doable[SHOWN:]),
        first_skipped=skipped[:SHOWN],
        other_skipped=_lines(skipped[SHOWN:]),
        form_token=uuid4(),
        planned=plans is not None,
        # Before there is a plan, none of them is skipped.
        ids=_joined([plan.key for plan in doable] if plans is not None else keys),
        skipped_ids=_joined(plan.key for plan in skipped),
        shown=_shown(form) if plans is not None else "",
        button=fix.button(len(doable)),
        working=f"Working on {_keys(len(doable))} …",
        is_start=is_start,
        anew=anew,
        back=back,
    )
    return TemplateResponse(request, "keys/fix_preview.html", context)


def _preview_of_concern(request: HttpRequest, fix: FixPage, slug: str) -> HttpResponse:
    if not slug:
        return preview_page(request, fix, [], back=reverse("admin:hygiene"))
    if slug not in hygiene.CONCERNS:
        raise Http404("no such concern")
    now = clock.now()
    usable = _visible(caller(request)).usable(now)
    found = hygiene.concerned(usable, slug, now).prefetch_related(*RELATED).order_by("name", "pk")
    # One more than allowed is enough to know that there are more.
    keys = keys_of_page(found, 0, bulk.MOST_AT_ONCE + 1)
    return preview_page(
        request, fix, keys[: bulk.MOST_AT_ONCE], back=reverse("admin:hygiene"), is_start=len(keys) > bulk.MOST_AT_ONCE
    )


def _plans(member: Member, fix: FixPage, form: FixForm, keys: Sequence[GatewayKey]) -> list[Plan] | None:
    """Return what would become of each key; None where the particulars do not say it yet."""
    if form.is_bound:
        if fix.previewed and not form.is_valid():
            return None
        given = form.cleaned_data if form.is_valid() else {}
    else:
        given = {name: _initial(field) for name, field in form.fields.items()}
        if fix.previewed and None in given.values():
            return None
    return bulk.preview(member, fix.make(given) if fix.previewed else fix.make({}), keys)


def _initial(field: forms.Field) -> Any:
    """Return what a field stands for when it is shown first: for a choice among objects, the object."""
    if isinstance(field, forms.ModelChoiceField) and field.queryset is not None and field.initial is not None:
        return field.queryset.filter(pk=field.initial).first()
    return field.initial


def _shown(form: FixForm) -> str:
    """Return the particulars that a preview was made with, as text to hold against those that are confirmed."""
    names = sorted(form.fields)
    values = {name: form[name].value() for name in names}
    return json.dumps({name: None if value is None else str(value).strip() for name, value in values.items()})


def _visible(member: Member) -> GatewayKeyQuerySet:
    return cast("GatewayKeyQuerySet", member.visible(GatewayKey.objects.all()))


def _ids(text: str) -> list[UUID]:
    try:
        return list(dict.fromkeys(UUID(part) for part in text.split(",") if part))
    except ValueError as error:
        raise BadRequest("not the id of a key") from error


def _token(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise BadRequest("the form is incomplete: load the page again") from error


def _lines(plans: Sequence[Plan]) -> SafeString:
    """Return a list item for each: quicker than a template's loop."""
    lines = ((plan.key.name, plan.key.hint, plan.why_not or f"{plan.before} → {plan.after}") for plan in plans)
    return format_html_join("", '<li>{} <span class="kt-mono">{}</span>: {}</li>', lines)


def _joined(keys: Iterable[GatewayKey]) -> str:
    return ",".join(str(key.pk) for key in keys)


def _back(request: HttpRequest, address: str) -> str:
    """Return the address to go back to: one of ours, else the hygiene page."""
    ours = address.startswith(reverse("admin:index")) and url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    )
    return address if ours else reverse("admin:hygiene")


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count:,} keys"

"""The screens of gateway keys: the list, the form that creates one, and the page of one key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

from django import forms
from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.db.models import Case, IntegerField, Prefetch, QuerySet, Value, When, prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from access.actors import request_actor
from access.console import ConsoleAdmin, NullsLast, once_a_page
from access.dialogs import dialog_action, reload_page
from access.kept_filters import keep_list_filters
from access.models import Member
from access.once import AlreadyDone, once
from access.overtaken import expected_state
from access.refusals import Conflict
from access.reveal import reveal_in_dialog
from audit import clock
from audit.console_export import export_list
from audit.models import AuditEntry
from audit.moments import moment, stamp
from audit.narrowing import with_filters
from keys import group_admin, lifecycle, policy, policy_pages, report_pages  # noqa: F401  # register themselves
from keys.admin_bulk import BULK_FIXES, export_selected
from keys.admin_dialogs import DisableForm, EnableForm, EndGraceForm, ExtendGraceForm, RevokeForm, RotateForm
from keys.admin_filters import AttentionFilter, ExpiringFilter, GroupFilter, OwnerFilter, StatusFilter
from keys.admin_forms import CreateKeyForm, EditKeyForm, KeyForm
from keys.breaches import breaches
from keys.csv_export import key_export
from keys.giving import page_of, secret_of
from keys.key_lists import REQUESTS, KeyChangeList
from keys.key_search import search
from keys.models import GatewayKey, InstallationPolicy, KeyVersion
from keys.offers import possible_verbs, why_not
from keys.snapshots import state_tag
from keys.status import KeyStatus, in_status
from keys.visibility import manages_all

STATUS_LABELS: Final = {
    KeyStatus.ACTIVE.value: "success",
    KeyStatus.ROTATING.value: "info",
    KeyStatus.DISABLED.value: "warning",
    KeyStatus.EXPIRED.value: "default",
    KeyStatus.REVOKED.value: "danger",
}
FIELDS: Final = ("name", "consumer_group", "expiry", "expires_on", "owner", "description", "allowed_networks")
VERSIONS_SHOWN: Final = 20
ENTRIES_SHOWN: Final = 10


@admin.register(GatewayKey)
class GatewayKeyAdmin(ConsoleAdmin[GatewayKey]):
    list_display = ("name", "status_label", "group", "hint_label", "created", "expires", "last_used", "requests_24h")
    list_filter = (StatusFilter, GroupFilter, OwnerFilter, ExpiringFilter, AttentionFilter)
    list_select_related = ("consumer_group", "metrics")
    detail_select_related = ("consumer_group", "metrics", "created_by", "revoked_by")
    search_fields = ("name", "description", "hint", "id")
    search_help_text = "Name, description, hint or id"
    list_before_template = "keys/find_hint.html"
    ordering = ("-created_at", "id")
    show_add_link = False
    add_title = "Create Gateway Key"
    add_button = "Create and show the value"
    actions = (*BULK_FIXES, export_selected)
    actions_list = ("create", "export_all")
    actions_row = ("edit", "rotate", "extend_grace", "end_grace", "disable", "enable", "revoke")
    actions_detail = ("rotate", "extend_grace", "end_grace", "disable", "enable", "revoke")
    conditional_fields = {"expires_on": "expiry == 'custom'"}
    change_form_before_template = "keys/form_token.html"
    change_form_outer_before_template = "keys/key_overview.html"
    change_form_outer_after_template = "keys/key_entries.html"

    # --- the list -----------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[GatewayKey]:
        now = clock.now()
        ranks = [When(in_status(status, now), then=Value(rank)) for rank, status in enumerate(KeyStatus)]
        return super().get_queryset(request).annotate(status_rank=Case(*ranks, output_field=IntegerField()))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeyChangeList]:
        return KeyChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search(queryset, search_term), False

    @display(description="Status", ordering="status_rank", label=STATUS_LABELS)
    def status_label(self, key: GatewayKey) -> tuple[str, str]:
        status = key.status_at(clock.now())
        return status.value, status.label

    @display(description="Consumer group", ordering=NullsLast("consumer_group__name"))
    def group(self, key: GatewayKey) -> str | SafeString:
        return (
            str(key.consumer_group)
            if key.consumer_group
            else format_html('<span class="kt-quiet">{}</span>', "All groups")
        )

    @display(description="Hint", ordering="hint")
    def hint_label(self, key: GatewayKey) -> SafeString:
        return format_html('<span class="kt-mono">{}</span>', key.hint)

    @display(description="Created", ordering="created_at")
    def created(self, key: GatewayKey) -> SafeString:
        return moment(key.created_at)

    @display(description="Expires", ordering=NullsLast("expires_at"))
    def expires(self, key: GatewayKey) -> SafeString:
        return moment(key.expires_at, absent="Never")

    @display(description="Last used", ordering=NullsLast("metrics__last_used_at"))
    def last_used(self, key: GatewayKey) -> SafeString:
        # `metrics` is a model of the usage house, reached by its name (design §10); a key without counts has none.
        return moment(getattr(getattr(key, "metrics", None), "last_used_at", None), absent="Never")

    @display(description="Requests 24 h", ordering=REQUESTS)
    def requests_24h(self, key: GatewayKey) -> SafeString:
        count: int = getattr(getattr(key, "metrics", None), "requests_24h", 0)
        return format_html('<span class="kt-number">{}</span>', f"{count:,}")

    # --- what each row offers -----------------------------------------------------------------------------------------

    def offered_actions(self, request: HttpRequest, rows: Sequence[GatewayKey]) -> dict[Any, Collection[str]]:
        if len(rows) == 1:
            # As the page of the key has asked already.
            managed = self._managed(request, rows[0])
        else:
            managed = manages_all(cast(Member, request.user), {key.consumer_group_id for key in rows})
        now = clock.now()
        return {key.pk: possible_verbs(key, now) if managed[key.consumer_group_id] else () for key in rows}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The rule book, and the state: a key that is expired or revoked is only read."""
        return super().has_change_permission(request, obj) and (obj is None or not why_not("edit", obj, clock.now()))

    def allows(self, request: HttpRequest, verb: str, obj: GatewayKey | None = None) -> bool:
        if obj is None or verb in {"view", "export"}:
            return super().allows(request, verb, obj)
        # The rule for one key (keys/visibility.py), asked together with what the form asks.
        return super().allows(request, verb) and self._managed(request, obj)[obj.consumer_group_id]

    def _managed(self, request: HttpRequest, key: GatewayKey | None) -> dict[int | None, bool]:
        """Return whether the member manages the group of `key`, and by None whether they manage every group."""
        groups = {key.consumer_group_id if key is not None else None, None}
        ask = partial(manages_all, cast(Member, request.user), groups)
        return once_a_page(request, ("managed", *groups), ask)

    def _installation(self, request: HttpRequest) -> InstallationPolicy:
        return once_a_page(request, ("policy",), policy.installation_policy)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "revoke")

    def has_disable_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "disable")

    def has_end_grace_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "end_grace")

    def has_edit_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "change")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "export")

    def require_write(self, request: HttpRequest, object_id: str | None) -> None:
        super().require_write(request, object_id)
        key = self.get_object(request, object_id) if object_id is not None else None
        if key is not None and (reason := why_not("edit", key, clock.now())):
            status = key.status_at(clock.now())
            raise Conflict(f"key_{status}", reason, permission="keys.change_gatewaykey", obj=key)

    # --- creating and editing -----------------------------------------------------------------------------------------

    @action(permissions=["add"], description=add_title, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(keep_list_filters(request, reverse("admin:keys_gatewaykey_add")))

    @action(description="Export all (CSV)", url_path="export", icon="download", permissions=["export"])
    def export_all(self, request: HttpRequest) -> HttpResponseBase:
        """Give out what the list shows, row by row; that it was taken is in the audit log before the first one."""
        return export_list(self, request, key_export(clock.now()), actor=request_actor(request))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return with_filters(super().changelist_view(request, extra_context), request)

    @action(description="Edit", icon="edit")
    def edit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        context: dict[str, Any] = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return HttpResponseRedirect(f"{add_preserved_filters(context, page_of(object_id))}#edit")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ((None, {"fields": FIELDS}),)
        return (("Edit", {"fields": FIELDS}),) if self.has_change_permission(request, obj) else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            base: type[KeyForm] = CreateKeyForm if obj is None else EditKeyForm
            given = {
                "member": request.user,
                "everywhere": self._managed(request, obj)[None],
                "installation": self._installation(request),
            }
            kwargs["form"] = type(base.__name__, (base,), given)
        return super().get_form(request, obj, change=change, **kwargs)

    def verb_create(self, request: HttpRequest, form: forms.ModelForm[GatewayKey]) -> GatewayKey:
        given = form.cleaned_data
        token = given["form_token"]
        with once(member=cast(Member, request.user), path=request.path, token=token) as note:
            issued = lifecycle.create(
                actor=request_actor(request),
                name=given["name"],
                consumer_group=given["consumer_group"],
                expires_at=given["expires_at"],
                description=given["description"],
                allowed_networks=given["allowed_networks"],
                owner=given["owner"],
            )
            note["id"] = str(issued.key.pk)
        self.show_once(request, secret_of(request, issued, f"Gateway key {issued.key} created"))
        return issued.key

    def verb_edit(self, request: HttpRequest, form: forms.ModelForm[GatewayKey], obj: GatewayKey) -> GatewayKey:
        changed = cast(EditKeyForm, form).changed()
        expected = expected_state(request)
        return lifecycle.edit(actor=request_actor(request), key_id=obj.pk, changed=changed, expected=expected)

    def tag_of(self, obj: GatewayKey) -> str:
        _fetch_versions(obj)
        return state_tag(obj)

    def already_done_context(self, obj: GatewayKey) -> dict[str, Any]:
        return {"replace_url": reverse("admin:keys_gatewaykey_replace", args=[obj.pk]), "form_token": uuid4()}

    # --- changes of state ---------------------------------------------------------------------------------------------

    @dialog_action(RotateForm, title="Rotate", submit="Rotate", icon="autorenew")
    def rotate(self, request: HttpRequest, form: RotateForm) -> HttpResponse:
        token = form.cleaned_data["form_token"]
        try:
            with once(member=cast(Member, request.user), path=request.path, token=token):
                issued = lifecycle.rotate(
                    actor=request_actor(request),
                    key_id=form.obj.pk,
                    grace=form.chosen_grace,
                    renew_expiry=form.cleaned_data.get("renew_expiry", True),
                )
        except AlreadyDone as done:
            raise Conflict(
                "already_processed",
                "This was carried out already, and a value is not shown twice. If it was not stored, rotate once more.",
            ) from done
        return reveal_in_dialog(request, secret_of(request, issued, f"Gateway key {issued.key} rotated"))

    @dialog_action(ExtendGraceForm, title="Extend grace", submit="Extend grace", icon="more_time")
    def extend_grace(self, request: HttpRequest, form: ExtendGraceForm) -> HttpResponse:
        key = lifecycle.extend_grace(actor=request_actor(request), key_id=form.obj.pk, grace=form.chosen_grace)
        until = stamp(key.grace_until) if key.grace_until else ""
        return reload_page(request, f"The old value of {key} stays accepted until {until}{_where(key)}.")

    @dialog_action(EndGraceForm, title="End grace", submit="End grace now", icon="timer_off", loud=False)
    def end_grace(self, request: HttpRequest, form: EndGraceForm) -> HttpResponse:
        key = lifecycle.end_grace(actor=request_actor(request), key_id=form.obj.pk)
        return reload_page(request, f"The older values of {key} are refused{_where(key)}.")

    @dialog_action(DisableForm, title="Disable", submit="Disable", icon="pause_circle", loud=False)
    def disable(self, request: HttpRequest, form: DisableForm) -> HttpResponse:
        key = lifecycle.disable(actor=request_actor(request), key_id=form.obj.pk)
        return reload_page(request, f"{key} is disabled{_where(key, ', and refused')}.")

    @dialog_action(EnableForm, title="Enable", submit="Enable", icon="play_circle")
    def enable(self, request: HttpRequest, form: EnableForm) -> HttpResponse:
        key = lifecycle.enable(actor=request_actor(request), key_id=form.obj.pk)
        return reload_page(request, f"{key} is enabled{_where(key)}.")

    @dialog_action(RevokeForm, title="Revoke", submit="Revoke for good", icon="block")
    def revoke(self, request: HttpRequest, form: RevokeForm) -> HttpResponse:
        key = lifecycle.revoke(
            actor=request_actor(request), key_id=form.obj.pk, reason=form.cleaned_data.get("reason", "")
        )
        return reload_page(request, f"{key} is revoked{_where(key, ', and refused')}.")

    # --- the page of one key ------------------------------------------------------------------------------------------

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: Any = False,
        change: Any = False,
        form_url: Any = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            # A form that comes again has written into its own object what was typed, and is not saved.
            key = self.get_object(request, str(obj.pk)) if request.method == "POST" else obj
            context.update(self._overview(request, key or obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _overview(self, request: HttpRequest, key: GatewayKey) -> dict[str, Any]:
        now = clock.now()
        _fetch_versions(key)
        versions = list(key.versions.all())
        member = cast(Member, request.user)
        entries = AuditEntry.objects.filter(object_type="gateway_key", object_id=str(key.pk)).order_by("-id")
        status, rules = key.status_at(now), policy.rules_of(key.consumer_group, self._installation(request))
        return {
            "title": key.name,
            # Django would say the name a second time in the window's title.
            "subtitle": "",
            "key": key,
            "status": status,
            "status_variant": STATUS_LABELS[status.value],
            "accepted": status in {KeyStatus.ACTIVE, KeyStatus.ROTATING},
            "versions": [(version, version.state_at(now)) for version in versions[:VERSIONS_SHOWN]],
            "more_versions": len(versions) > VERSIONS_SHOWN,
            "entries": member.visible(entries)[:ENTRIES_SHOWN],
            "rules": policy.in_words(rules),
            "fences": rules.fences,
            "breaches": breaches(key, rules, now),
            "why_read_only": self._why_read_only(request, key, now),
        }

    def _why_read_only(self, request: HttpRequest, key: GatewayKey, at: datetime) -> str:
        """Say why who changes other keys cannot change this one; "" where they can, or never change any."""
        if self.allows(request, "change", key):
            return why_not("edit", key, at)
        # A Manager sees no key of a group that they do not manage: what is left is one without a group.
        unscoped = "This key reaches every group: only who manages all of them may change it."
        return unscoped if self.allows(request, "change") else ""


def _fetch_versions(key: GatewayKey) -> None:
    """Let the key bring its versions with their figures, once for the tag of its state and its page."""
    prefetch_related_objects([key], Prefetch("versions", KeyVersion.objects.select_related("metrics")))


def _where(key: GatewayKey, before: str = "") -> str:
    """Return on which gateway processes the key's change is in force, as the rest of a sentence."""
    return key.narrowing.told(before) if key.narrowing is not None else ""

"""The audit log in the console: read, search, and prove. Nobody writes here but `record`."""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import DataError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, TextFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator

from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.bundles import NoEvidence, evidence
from audit.change_lists import StrictChangeList
from audit.console_export import export_list, to_list
from audit.entry_export import ENTRIES, until_now
from audit.export_slots import TooManyExports
from audit.exports import filters_of
from audit.list_filters import DayRangeFilter
from audit.models import AuditEntry, AuditLeaf
from audit.moments import moment
from audit.narrowing import search_entries, with_filters
from audit.reading import ABSENT, Reading
from audit.sealing import newest_checkpoint
from audit.verification import Verdict, verify_for


class Kind(NamedTuple):
    """A kind of object. screen: the console's page for one, by name (its house is above, design §10); "" = none.

    permission: what a member needs to get there; "" = who sees the entry does. single: there is one page for all.
    """

    words: str
    screen: str = ""
    permission: str = ""
    single: bool = False


OBJECTS: Final = {
    "gateway_key": Kind("Gateway key", "keys_gatewaykey_change"),
    "consumer_group": Kind("Consumer group", "keys_consumergroup_change"),
    "policy": Kind("Policy", "policy", single=True),
    "gateway": Kind("Gateway", "gateways_gateway_change"),
    "webhook_endpoint": Kind("Webhook endpoint", "webhooks_webhookendpoint_change", "webhooks.view_webhookendpoint"),
    "member": Kind("Member", "access_member_change", "access.view_member"),
    # One's own are seen by everybody, those of others by whoever sees the members.
    "access_key": Kind("Access key", "access_accesskey_change", "access.view_member"),
    "session": Kind("Session"),
    "audit_entry": Kind("Audit log"),
    "usage_event": Kind("Usage events"),
    "usage_day": Kind("Usage per day"),
    "report": Kind("Report", "reports", single=True),
}
ACTOR_WORDS: Final = {ActorKind.MEMBER: "", ActorKind.SYSTEM: "the system", ActorKind.ANONYMOUS: "not signed in"}
# Who reads an entry: what its columns are asked for does not say.
_readers: WeakKeyDictionary[AuditEntry, Any] = WeakKeyDictionary()


class ObjectTypeFilter(DropdownFilter):
    title = "object"
    parameter_name = "object_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, kind.words) for name, kind in OBJECTS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


class ObjectFilter(TextFilter):
    """One object, by its id: where the links "audit entries" of the console lead."""

    title = "object id"
    parameter_name = "object_id"

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        value = (self.value() or "").strip().lower()
        return queryset.filter(object_id=value) if value else queryset


class ActorKindFilter(DropdownFilter):
    title = "kind of actor"
    parameter_name = "actor_kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("member", "Members"), ("system", "The system"), ("anonymous", "Nobody signed in")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(actor_kind=self.value()) if self.value() else queryset


class ActorFilter(DropdownFilter):
    """What one member did, by their id: a name may be a job's, too."""

    title = "who"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # A Manager reads of others only what concerns their keys: no list of the team for them.
        members = get_user_model()._default_manager.order_by("username")
        if not model_admin.has_export_permission(request):
            members = members.filter(pk=request.user.pk)
        return [(str(pk), name) for pk, name in members.values_list("pk", "username")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if not self.value():
            return queryset
        return queryset.filter(actor_kind=ActorKind.MEMBER.value, actor_id=self.value())


@admin.register(AuditEntry)
class AuditEntryAdmin(ModelAdmin):
    list_display = ("time", "what", "object_text", "actor_text", "origin")
    list_display_links = ("time", "what")
    list_filter = (
        ActorFilter,
        ActorKindFilter,
        ("action", ChoicesDropdownFilter),
        ObjectTypeFilter,
        ObjectFilter,
        ("at", DayRangeFilter),
    )
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("object_label",)
    search_help_text = "Id or name of the object, name of the actor, action"
    ordering = ("-id",)
    paginator = InfinitePaginator
    list_per_page = 50
    list_max_show_all = 50
    show_full_result_count = False
    actions = None
    actions_list: Any = ("export_all", "export_evidence", "verify_now")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("time", "what", "object_text", "actor_text", "credential_text", "origin")}),
        ("What changed", {"fields": ("changes",)}),
        ("Proof", {"fields": ("number", "seal")}),
    )

    # --- the rule book, asked by way of the member (design §10: this house imports none of ours) ----------------------

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "view", obj)

    def has_export_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "export")

    def has_verify_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "verify")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        member = cast(Any, request.user)
        return cast("QuerySet[AuditEntry]", member.visible(super().get_queryset(request)))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AuditEntry | None:
        """Return the entry by its number alone: Django takes any column that an address names, even "" as one."""
        entry = cast("AuditEntry | None", super().get_object(request, object_id))
        if entry is not None:
            _readers[entry] = request.user
        return entry

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        @display(description="Object")
        def object_text(entry: AuditEntry) -> SafeString | str:
            return self._object(entry, request.user)

        return [object_text if column == "object_text" else column for column in self.list_display]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field for _, options in self.fieldsets for field in options["fields"]]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_entries(queryset, search_term), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[StrictChangeList]:
        return StrictChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            response = super().changelist_view(request, {"title": "Audit log", **(extra_context or {})})
            return with_filters(response, request)
        except DataError as error:
            # A filter with a character that PostgreSQL keeps in no text; Django would answer 500.
            raise BadRequest("not a value that a row can have") from error

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404("the audit log has no history of its own")

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """What a member may not see is answered as if it did not exist."""
        raise Http404("no such audit entry")

    @action(description="Export all (CSV)", url_path="export", icon="download", permissions=["export"])
    def export_all(self, request: HttpRequest) -> HttpResponseBase:
        """Give out what the list shows, row by row; that it was taken is in the log before the first one."""
        return export_list(self, request, ENTRIES, actor=_actor(request), narrow=until_now)

    @action(description="Export evidence", url_path="evidence", icon="assured_workload", permissions=["export"])
    def export_evidence(self, request: HttpRequest) -> HttpResponseBase:
        """Give out what the list shows as a bundle that proves itself offline (docs/audit.md)."""
        try:
            entries = until_now(self.get_changelist_instance(request).queryset)
            return evidence(request, entries, actor=_actor(request), filters=filters_of(request.GET))
        except IncorrectLookupParameters:
            return to_list(self, request)
        except (NoEvidence, TooManyExports) as error:
            messages.error(request, str(error))
            return to_list(self, request)

    # --- proof --------------------------------------------------------------------------------------------------------

    @action(
        description="Verify now",
        url_path="verify",
        icon="verified",
        variant=ActionVariant.PRIMARY,
        permissions=["verify"],
    )
    def verify_now(self, request: HttpRequest) -> HttpResponse:
        """Show what verifying means; on POST, do it, record that it was done, and show the verdict."""
        if not self.has_verify_permission(request):
            raise PermissionDenied
        verdict: Verdict | None = None
        if request.method == "POST":
            verdict = verify_for(_actor(request))
        # The one before this: what this request has just recorded says nothing new.
        last = AuditEntry.objects.filter(action=AuditAction.AUDIT_VERIFIED).order_by("-id")
        last_entry = last[1:2].first() if verdict else last.first()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Verify the audit log",
            "verdict": verdict,
            "last": last_entry,
            "last_url": reverse(f"{self.admin_site.name}:audit_auditentry_change", args=[last_entry.pk])
            if last_entry
            else "",
            "sealed_until": newest_checkpoint() if verdict else None,
            "list_url": reverse(f"{self.admin_site.name}:audit_auditentry_changelist"),
        }
        response = TemplateResponse(request, "console/verify.html", context)
        response["Cache-Control"] = "no-store"
        return response

    # --- columns ------------------------------------------------------------------------------------------------------

    @display(description="Time", ordering="at")
    def time(self, entry: AuditEntry) -> SafeString:
        return moment(entry.at, seconds=True)

    @display(description="What", ordering="action")
    def what(self, entry: AuditEntry) -> SafeString:
        tone = "kt-bad" if entry.action.endswith(("_refused", "_failed")) else ""
        return format_html('<span class="{}" title="{}">{}</span>', tone, entry.action, entry.get_action_display())

    @display(description="Object")
    def object_text(self, entry: AuditEntry) -> SafeString | str:
        return self._object(entry, _readers.get(entry))

    def _object(self, entry: AuditEntry, reader: Any) -> SafeString | str:
        """Say what an entry is about, with a link where `reader` gets to its page."""
        kind = OBJECTS.get(entry.object_type, Kind(entry.object_type))
        label = entry.object_label or entry.object_id
        if not label:
            return kind.words
        own = reader is not None and entry.actor_id == str(reader.pk)
        may = not kind.permission or own or (reader is not None and reader.may(kind.permission))
        if kind.screen and may and (kind.single or entry.object_id):
            link = reverse(f"{self.admin_site.name}:{kind.screen}", args=[] if kind.single else [entry.object_id])
            return format_html('{} <a class="kt-link" href="{}">{}</a>', kind.words, link, label)
        return format_html("{} <strong>{}</strong>", kind.words, label)

    @display(description="Who", ordering="actor_label")
    def actor_text(self, entry: AuditEntry) -> SafeString:
        return format_html(
            '{} <small class="kt-quiet">{}</small>',
            entry.actor_label or ABSENT,
            ACTOR_WORDS.get(ActorKind(entry.actor_kind), ""),
        )

    @display(description="From")
    def origin(self, entry: AuditEntry) -> SafeString | str:
        return format_html('<span class="kt-mono">{}</span>', entry.ip) if entry.ip else ABSENT

    @display(description="By means of")
    def credential_text(self, entry: AuditEntry) -> str:
        return entry.credential or ABSENT

    @display(description="Before and after")
    def changes(self, entry: AuditEntry) -> SafeString | str:
        """Say what changed, and what else is known of it, in two small tables."""
        if not (entry.before or entry.after or entry.detail):
            return "Nothing more was recorded."
        said = Reading(entry, _readers.get(entry))
        # The first entry of an object has no before: two columns of which one is empty would say less.
        context = {"rows": said.rows(), "changed": bool(entry.before), "facts": said.facts()}
        return SafeString(render_to_string("console/changes.html", context))

    @display(description="Entry")
    def number(self, entry: AuditEntry) -> str:
        return str(entry.pk)

    @display(description="Sealed")
    def seal(self, entry: AuditEntry) -> SafeString | str:
        leaf = AuditLeaf.objects.filter(entry=entry).first()
        if leaf is None:
            return "Not yet: the sealer comes by every few seconds."
        return format_html('Leaf {}, <code class="kt-mono kt-break">{}</code>', leaf.index, bytes(leaf.hash).hex())

    def _may(self, request: HttpRequest, verb: str, obj: object | None = None) -> bool:
        member = cast(Any, request.user)
        return bool(member.is_authenticated and member.may(f"audit.{verb}_auditentry", obj))


def _actor(request: HttpRequest) -> Actor:
    # By name: who is behind a request is known one house up.
    actor: Actor = import_string("access.actors.request_actor")(request)
    return actor

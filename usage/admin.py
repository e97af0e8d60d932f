"""Usage events in the console: what happened, one request a row. Nobody writes here."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from access.actors import request_actor
from access.console import ConsoleAdmin
from access.list_filters import VisibleDropdownFilter
from access.models import Member
from access.tokens import HINT_LENGTH
from audit.console_export import export_list, to_list
from audit.list_filters import DayRangeFilter
from audit.moments import moment
from audit.narrowing import with_filters
from keys.models import GatewayKey, KeyVersion
from usage import cutover_page  # noqa: F401  # its page registers itself
from usage.csv_export import EVENTS
from usage.models import Outcome, UsageEvent
from usage.newest import newest
from usage.reasons import REASONS

STATUS_CLASSES: Final = {
    "1": "1xx informational",
    "2": "2xx success",
    "3": "3xx redirect",
    "4": "4xx client error",
    "5": "5xx server error",
    "errors": "Errors (4xx and 5xx)",
    "none": "Not reported",
}
# What the sums of a day do not tell apart, in words.
SUMS_LACK: Final = {"q": "the search", "status_class": "status"}
# So many keys a search by name looks at; beyond that, the name says too little.
MOST_KEYS: Final = 100
ROWS_SHOWN: Final = 50


class ReasonFilter(DropdownFilter):
    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(REASONS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        return queryset.filter(reason=self.value()) if self.value() else queryset


class StatusClassFilter(DropdownFilter):
    title = "status"
    parameter_name = "status_class"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(STATUS_CLASSES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        match self.value():
            case None | "":
                return queryset
            case "none":
                return queryset.filter(outcome=Outcome.SERVED, status__isnull=True)
            case "errors":
                return queryset.filter(status__gte=400)
            case digit if digit in STATUS_CLASSES:
                return queryset.filter(status__gte=int(digit) * 100, status__lt=int(digit) * 100 + 100)
            case _:
                return queryset.none()


class GatewayFilter(VisibleDropdownFilter):
    title = "gateway"
    parameter_name = "gateway"
    # A model of the house above, by way of our own relation to it (design §10).
    related = UsageEvent._meta.get_field("gateway").related_model


@admin.register(UsageEvent)
class UsageEventAdmin(ConsoleAdmin[UsageEvent]):
    list_display = ("time", "outcome_label", "key_text", "gateway", "request_text", "status_label", "latency")
    list_display_links = ("time",)
    list_filter = (
        ("outcome", ChoicesDropdownFilter),
        ReasonFilter,
        GatewayFilter,
        StatusClassFilter,
        ("occurred_at", DayRangeFilter),
    )
    list_select_related = ("key", "version", "gateway", "consumer_group")
    search_fields = ("decision_id",)
    search_help_text = "Decision id, key, or hint"
    ordering = ("-occurred_at", "-id")
    actions_list = ("export_all", "export_days")
    paginator = InfinitePaginator
    list_per_page = ROWS_SHOWN
    fieldsets = (
        (None, {"fields": ("time", "outcome_label", "reason_words", "gateway", "decision_id", "event_id")}),
        ("Key", {"fields": ("key", "version_text", "group_text")}),
        ("Request", {"fields": ("request_text", "client_ip", "status_label", "latency")}),
        ("Model", {"fields": ("provider", "model", "operation", "input_tokens", "output_tokens", "cost")}),
        ("Record", {"fields": ("received",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what does not apply: most requests are none to a language model."""
        facts = ("provider", "model", "operation", "input_tokens", "output_tokens", "cost")
        told = obj is not None and any(getattr(obj, fact) not in {None, ""} for fact in facts)
        return [part for part in self.fieldsets if part[0] != "Model" or told]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field for _, options in self.fieldsets for field in options["fields"]]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by what identifies a request or a key: exact where it is an id, by part where it is a name."""
        term = search_term.strip()
        if not term:
            return queryset, False
        # A whole value, pasted, finds its key by the part that may be shown.
        if term.startswith("kt_"):
            hinted = KeyVersion.objects.filter(hint__startswith=term[:HINT_LENGTH]).values_list("pk", "key_id")
            keys = dict(hinted[:MOST_KEYS])
            # By the key, too: its index is in the order of time.
            return newest(queryset.filter(version__in=keys), "key", set(keys.values()), _shown(request)), False
        named = Q(name__icontains=term)
        if (key_id := _uuid(term)) is not None:
            named |= Q(pk=key_id)
        visible = cast("Member", request.user).visible(GatewayKey.objects.all())
        found = list(visible.filter(named).values_list("pk", flat=True)[:MOST_KEYS])
        # One or the other: with OR between them, PostgreSQL uses the index of neither.
        if not found:
            return queryset.filter(decision_id=term), False
        return newest(queryset, "key", found, _shown(request)), False

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, "export")

    @action(description="Export all (CSV)", url_path="export", icon="download", permissions=["export"])
    def export_all(self, request: HttpRequest) -> HttpResponseBase:
        """Give out what the list shows, row by row; that it was taken is in the audit log before the first one."""
        return export_list(self, request, EVENTS, actor=request_actor(request))

    @action(
        description="Export all per day (CSV)", url_path="export-days", icon="calendar_month", permissions=["export"]
    )
    def export_days(self, request: HttpRequest) -> HttpResponseBase:
        """Give out the exact sums of each day in UTC; of the list's filters, gateway and day fit them."""
        others = set(request.GET) - {"gateway", "occurred_at_from", "occurred_at_to", "p", "o", "all", "e"}
        if lost := sorted(name.removesuffix("__exact") for name in others if request.GET[name].strip()):
            words = ", ".join(SUMS_LACK.get(name, name) for name in lost)
            messages.warning(request, f"Sums of a day are not kept apart by {words}. Remove that, or export events.")
            return to_list(self, request)
        names = {"gateway": "gateway", "occurred_at_from": "day_from", "occurred_at_to": "day_to"}
        query = urlencode({ours: value for theirs, ours in names.items() if (value := request.GET.get(theirs))})
        return HttpResponseRedirect(f"{reverse('usage-days-export')}{f'?{query}' if query else ''}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return with_filters(super().changelist_view(request, extra_context), request)

    @display(description="Time", ordering="occurred_at")
    def time(self, event: UsageEvent) -> SafeString:
        # To the second: between two requests a minute is a long time.
        return moment(event.occurred_at, seconds=True)

    @display(description="Outcome", label={Outcome.SERVED.label: "success", Outcome.DENIED.label: "danger"})
    def outcome_label(self, event: UsageEvent) -> str:
        return str(Outcome(event.outcome).label)

    @display(description="Reason")
    def reason_words(self, event: UsageEvent) -> SafeString | str:
        if not event.reason:
            return "—"
        # A page of the house above, by its name (design §10).
        link = reverse(f"{self.admin_site.name}:why_refused_event", args=[event.pk])
        words = f"{REASONS.get(event.reason, event.reason)} ({event.reason})"
        return format_html('{} <a class="kt-link" href="{}">Why, and what would have let it pass</a>', words, link)

    @display(description="Gateway key")
    def key_text(self, event: UsageEvent) -> SafeString:
        if event.key is None:
            return format_html('<span class="kt-quiet">{}</span>', REASONS.get(event.reason, event.reason))
        link = reverse(f"{self.admin_site.name}:keys_gatewaykey_change", args=[event.key.pk])
        hint = event.version.hint if event.version else ""
        return format_html(
            '<a class="kt-link" href="{}">{}</a> <code class="kt-mono kt-quiet">{}</code>', link, event.key.name, hint
        )

    @display(description="Version")
    def version_text(self, event: UsageEvent) -> SafeString | str:
        if event.version is None:
            return "—"
        return format_html('{} <code class="kt-mono">{}</code>', event.version.number, event.version.hint)

    @display(description="Group at the time")
    def group_text(self, event: UsageEvent) -> str:
        return event.consumer_group.name if event.consumer_group else "none (every group)"

    @display(description="Request")
    def request_text(self, event: UsageEvent) -> SafeString | str:
        if event.outcome == Outcome.DENIED:
            return REASONS.get(event.reason, event.reason)
        words = f"{event.method} {event.path}".strip()
        return format_html('<code class="kt-mono kt-clip" title="{}">{}</code>', words, words) if words else "—"

    @display(description="Status")
    def status_label(self, event: UsageEvent) -> SafeString:
        if event.status is None:
            words = "not reported" if event.outcome == Outcome.SERVED else "—"
            return format_html('<span class="kt-quiet">{}</span>', words)
        tone = "kt-bad" if event.status >= 400 else "kt-good"
        return format_html('<span class="kt-number {}">{}</span>', tone, str(event.status))

    @display(description="Latency")
    def latency(self, event: UsageEvent) -> str:
        return "—" if event.latency_ms is None else f"{event.latency_ms:,} ms"

    @display(description="Received")
    def received(self, event: UsageEvent) -> SafeString:
        return moment(event.received_at)


def _shown(request: HttpRequest) -> int:
    """Return how many rows there are up to the page that is asked for, and one more: whether there is another."""
    page = request.GET.get("p", "")
    return ROWS_SHOWN * (int(page) if page.isdecimal() and len(page) < 5 else 1) + 1


def _uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None

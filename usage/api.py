"""The API of usage: events, and the figures of one key."""

from __future__ import annotations

from typing import Any, Final

import django_filters
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import request_actor
from access.filters import VisibleFilterBackend
from access.schema import CSV
from access.viewsets import ApiViewSet
from audit.exports import export, filters_of
from audit.parameters import DayFilter, IdFilter, InstantFilter, TextFilter
from keys.models import GatewayKey
from keys.serializers import MetricsJSON, metrics_json
from usage.csv_export import DAYS, EVENTS, per_day
from usage.figures import WINDOWS, Figures, Usage, of_key, usage
from usage.models import Outcome, UsageBucket, UsageEvent
from usage.reasons import REASONS
from usage.tallies import add_up

CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
QUANTILES: Final = ("p50", "p95", "p99")


class EventJSON(serializers.ModelSerializer[UsageEvent]):
    event_id = serializers.CharField(help_text="The gateway's own id for the request.")
    gateway = serializers.CharField(source="gateway.name")
    gateway_id = serializers.UUIDField()
    key_id = serializers.UUIDField(allow_null=True)
    key_name = serializers.CharField(source="key.name", default=None, allow_null=True)
    key_version = serializers.IntegerField(source="version.number", default=None, allow_null=True)
    consumer_group = serializers.CharField(source="consumer_group.slug", default=None, allow_null=True)

    class Meta:
        model = UsageEvent
        fields = [
            "id",
            "event_id",
            "occurred_at",
            "received_at",
            "outcome",
            "reason",
            "gateway",
            "gateway_id",
            "key_id",
            "key_name",
            "key_version",
            "consumer_group",
            "decision_id",
            "status",
            "latency_ms",
            "method",
            "path",
            "client_ip",
            "provider",
            "model",
            "operation",
            "input_tokens",
            "output_tokens",
            "cost",
        ]
        read_only_fields = fields


class EventFilters(django_filters.FilterSet):
    key = IdFilter("key")
    gateway = IdFilter("gateway")
    consumer_group = TextFilter("consumer_group__slug", help_text="A slug: the key's group when the request was made.")
    outcome = django_filters.ChoiceFilter(choices=Outcome.choices)
    reason = django_filters.ChoiceFilter(choices=list(REASONS.items()), help_text="Why it was denied.")
    status_class = django_filters.ChoiceFilter(
        choices=[(f"{digit}xx", f"{digit}xx") for digit in range(1, 6)], method="in_status_class"
    )
    provider = TextFilter("provider")
    model = TextFilter("model")
    decision_id = TextFilter("decision_id")
    occurred_after = InstantFilter("occurred_at", "gte")
    occurred_before = InstantFilter("occurred_at", "lt")

    class Meta:
        model = UsageEvent
        fields: list[str] = []

    def in_status_class(self, events: QuerySet[UsageEvent], name: str, status_class: str) -> QuerySet[UsageEvent]:
        lowest = int(status_class[0]) * 100
        return events.filter(status__gte=lowest, status__lt=lowest + 100)


class UsageEventViewSet(ListModelMixin, RetrieveModelMixin, ApiViewSet[UsageEvent]):
    """Requests that gateways served, and that were denied. Under a flood not every one is kept; the sums are exact."""

    queryset = UsageEvent.objects.select_related("gateway", "key", "version", "consumer_group")
    serializer_class = EventJSON
    filterset_class = EventFilters
    lookup_value_regex = "[0-9]{1,18}"
    search_fields = ["key__name", "=decision_id", "=event_id", "path", "model"]
    ordering_fields = {name: name for name in ("occurred_at", "latency_ms", "status")}

    @extend_schema(responses=CSV, filters=True)
    def export(self, request: Request) -> HttpResponseBase:
        """Download what the list with the same parameters shows, as CSV."""
        events = self.filter_queryset(self.get_queryset())
        filters = filters_of(request.query_params)
        return export(request._request, EVENTS, events, actor=request_actor(request), filters=filters)


class DayFilters(django_filters.FilterSet):
    key = IdFilter("version__key")
    gateway = IdFilter("gateway")
    consumer_group = TextFilter("consumer_group__slug", help_text="A slug: the key's group when the request was made.")
    model = TextFilter("model")
    day_from = DayFilter("start", "gte", help_text="The first day, in UTC, as 2030-01-31.")
    day_to = DayFilter("start", "lt", after=True, help_text="The last day, in UTC.")

    class Meta:
        model = UsageBucket
        fields: list[str] = []


class UsageDayViewSet(ApiViewSet[UsageBucket]):
    """The exact sums of each day in UTC, for each key version, group at the time, gateway and model."""

    queryset = UsageBucket.objects.all()
    filterset_class = DayFilters

    @extend_schema(responses=CSV, filters=True)
    def export(self, request: Request) -> HttpResponseBase:
        """Download the sums as CSV, newest day first. Unlike the events they stay, and no request is missing."""
        add_up()
        days = per_day(self.filter_queryset(self.get_queryset()))
        filters = filters_of(request.query_params)
        return export(request._request, DAYS, days, actor=request_actor(request), filters=filters)


def _numbers(name: str, fields: tuple[str, ...], *, allow_null: bool) -> serializers.Serializer[Any]:
    """Describe an object of whole numbers to the schema."""
    return inline_serializer(name, {field: serializers.IntegerField(allow_null=allow_null) for field in fields})


class FiguresJSON(serializers.Serializer[Figures]):
    requests = serializers.IntegerField()
    reported = serializers.IntegerField(help_text="Those of the requests whose status is known.")
    errors = serializers.IntegerField(  # type: ignore[assignment]  # DRF takes its fields off the class
        help_text="Those of the reported with a status of 400 or more."
    )
    error_rate = serializers.FloatField(allow_null=True, help_text="0..1; null where no status was reported.")
    denials = serializers.IntegerField(help_text="Requests that were refused; never counted as requests.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    status_classes = serializers.SerializerMethodField(help_text="The reported requests by the class of their status.")
    latency_ms = serializers.SerializerMethodField(
        help_text="Quantiles, estimated from a histogram up to 10 s; null where no latency was reported."
    )

    @extend_schema_field(_numbers("StatusClasses", CLASSES, allow_null=False))
    def get_status_classes(self, figures: Figures) -> dict[str, int]:
        return dict(zip(CLASSES, figures.statuses, strict=True))

    @extend_schema_field(_numbers("LatencyQuantiles", QUANTILES, allow_null=True))
    def get_latency_ms(self, figures: Figures) -> dict[str, int | None]:
        return {name: getattr(figures, name) for name in QUANTILES}


class PointJSON(serializers.Serializer[Any]):
    start = serializers.DateTimeField()
    figures = FiguresJSON()


class ModelFiguresJSON(serializers.Serializer[Any]):
    model = serializers.CharField(allow_blank=True, help_text="As the gateway reported it; empty where it did not.")
    figures = FiguresJSON()


class KeyMetricsJSON(MetricsJSON):
    """What the console's list shows of a key, and its figures in one window of time."""

    window = serializers.ChoiceField(list(WINDOWS))
    figures = FiguresJSON()
    series = PointJSON(many=True)
    models = ModelFiguresJSON(many=True, help_text="The busiest first.")


class KeyMetricsView(GenericAPIView[GatewayKey]):
    """The figures of one key."""

    queryset = GatewayKey.objects.with_metrics()
    filter_backends = [VisibleFilterBackend]
    serializer_class = KeyMetricsJSON
    http_method_names = ["get", "head"]
    detail = True

    @extend_schema(
        parameters=[OpenApiParameter("window", OpenApiTypes.STR, enum=list(WINDOWS), description="24h if absent.")]
    )
    def get(self, request: Request, pk: str) -> Response:
        """Show a key's totals, and its figures and their series in the last 24 hours, 7 days or 30 days."""
        add_up()
        key = self.get_object()
        name = _window(request)
        found = usage(of_key(key.pk), WINDOWS[name])
        return Response({**metrics_json(key), "window": name, **_usage_json(found)})


def _usage_json(found: Usage) -> dict[str, Any]:
    models = [{"model": model, "figures": figures} for model, figures in found.models]
    return {
        "figures": FiguresJSON(found.total).data,
        "series": PointJSON(found.points, many=True).data,
        "models": ModelFiguresJSON(models, many=True).data,
    }


def _window(request: Request) -> str:
    if unknown := set(request.query_params) - {"window"}:
        raise ValidationError({name: ["There is no such parameter."] for name in unknown}, code="unknown_parameter")
    name = request.query_params.get("window", "24h")
    if name not in WINDOWS:
        raise ValidationError({"window": [f"One of {', '.join(WINDOWS)}."]}, code="invalid_choice")
    return name

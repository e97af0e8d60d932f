"""The reports over the API: JSON with the totals and the first keys, CSV with all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import F
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller, request_actor
from access.models import Member
from access.schema import CSV
from access.viewsets import ApiViewSet
from audit import clock
from audit.csv_cells import Column, Kind
from audit.exports import export, filters_of
from keys import access_review as review
from keys import rotation_compliance as rotation
from keys.breaches import breaking
from keys.models import MOST_DAYS, GatewayKey, InstallationPolicy
from keys.policy import Policies
from keys.reports import ACCESS_REVIEW, ROTATION_COMPLIANCE, Asked, asked, record_report

GROUP: Final = OpenApiParameter(
    "consumer_group", {"type": "string", "minLength": 1}, description="A slug: keys of this group alone."
)
LIMIT: Final = OpenApiParameter(
    "days",
    {"type": "integer", "minimum": 1, "maximum": MOST_DAYS},
    description=f"How old a value may get where no policy says; {rotation.DAYS} if absent.",
)
_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NO_POLICY: Final = Policies(InstallationPolicy(pk=1), {})
_FIELDS: Final[dict[Kind, type[serializers.Field[Any, Any, Any, Any]]]] = {
    Kind.INSTANT: serializers.DateTimeField,
    Kind.DAYS: serializers.IntegerField,
    Kind.LIST: serializers.ListField,
}
_NUMBERS: Final = {"version", "versions_in_grace", "allowed_days"}


def _rows_of(name: str, columns: tuple[Column, ...]) -> serializers.Serializer[Any]:
    """Return what describes and writes rows with these columns, each of which may be null."""

    def field(column: Column) -> serializers.Field[Any, Any, Any, Any]:
        kind = serializers.IntegerField if column.name in _NUMBERS else _FIELDS.get(column.kind, serializers.CharField)
        return kind(allow_null=True)

    return inline_serializer(name, {column.name: field(column) for column in columns}, many=True)


class _CountsJSON(serializers.Serializer[Any]):
    consumer_group = serializers.CharField(
        source="consumer_group__slug", allow_null=True, help_text="A slug; null: keys without a group."
    )
    managers = serializers.CharField(allow_null=True, help_text="Usernames, with spaces between them.")
    keys = serializers.IntegerField()


class ReviewCountsJSON(_CountsJSON):
    in_breach = serializers.IntegerField()


class RotationCountsJSON(_CountsJSON):
    overdue = serializers.IntegerField()
    compliant = serializers.FloatField(allow_null=True, help_text="Percent, rounded down; null without keys.")


class AccessReviewJSON(serializers.Serializer[review.AccessReview]):
    at = serializers.DateTimeField()
    consumer_group = serializers.CharField(source="group.slug", default=None, allow_null=True)
    totals = serializers.DictField(child=serializers.IntegerField())
    breaches = serializers.DictField(child=serializers.IntegerField(), help_text="Keys by what of a policy they break.")
    groups = ReviewCountsJSON(many=True)
    keys = _rows_of("ReviewedKey", review.key_columns(_BEGIN, breaking(_NO_POLICY, _BEGIN)))
    members = _rows_of("ReviewedMember", review.TEAM_COLUMNS)


class MonthJSON(serializers.Serializer[rotation.Month]):
    start = serializers.DateTimeField()
    rotations = serializers.IntegerField()


class RotationComplianceJSON(serializers.Serializer[rotation.RotationCompliance]):
    at = serializers.DateTimeField()
    consumer_group = serializers.CharField(source="group.slug", default=None, allow_null=True)
    days = serializers.IntegerField()
    total = serializers.IntegerField()
    overdue = serializers.IntegerField()
    compliant = serializers.FloatField(allow_null=True)
    groups = RotationCountsJSON(many=True)
    months = MonthJSON(many=True)
    keys = _rows_of("KeyToRotate", rotation.key_columns(_BEGIN, rotation.Limits(rotation.DAYS, {}, _NO_POLICY)))


class AccessReviewViewSet(ApiViewSet[GatewayKey]):
    """Who holds which key that can be accepted, how old it is, when it was last used, what of a policy it breaks."""

    queryset = GatewayKey.objects.all()
    filter_backends = []
    pagination_class = None

    @extend_schema(parameters=[GROUP], responses=AccessReviewJSON)
    def review(self, request: Request) -> Response:
        """Produce the report: totals, groups, and the first 200 keys; for Admins and Auditors the team, too."""
        wanted = _asked(request, ACCESS_REVIEW)
        report = review.access_review(caller(request), clock.now(), wanted.group)
        rows = report.totals["keys"]
        record_report(request_actor(request), ACCESS_REVIEW, filters_of(request.query_params), rows=rows, form="json")
        return Response(AccessReviewJSON(report).data)

    @extend_schema(parameters=[GROUP], responses=CSV)
    def review_csv(self, request: Request) -> HttpResponseBase:
        """Download every key of the report, as CSV."""
        wanted, now = _asked(request, ACCESS_REVIEW), clock.now()
        keys = review.reviewed(caller(request), now, wanted.group).order_by("name", "pk")
        filters = filters_of(request.query_params)
        return export(request._request, review.key_export(now), keys, actor=request_actor(request), filters=filters)


class TeamReviewViewSet(ApiViewSet[Member]):
    """Who is in the team, in which role, and with which access keys that may be used."""

    queryset = Member.objects.all()
    filter_backends = []
    pagination_class = None

    @extend_schema(responses=CSV)
    def review_csv(self, request: Request) -> HttpResponseBase:
        """Download the members, a row for each of their access keys, as CSV."""
        if request.query_params:
            refused = [ErrorDetail("There is no such parameter.", code="unknown_parameter")]
            raise ValidationError(dict.fromkeys(request.query_params, refused))
        now = clock.now()
        return export(
            request._request, review.team_export(now), review.team(now), actor=request_actor(request), filters={}
        )


class RotationComplianceViewSet(ApiViewSet[GatewayKey]):
    """Which values are older than they may get, how many were rotated each month, how each group keeps to it."""

    queryset = GatewayKey.objects.all()
    filter_backends = []
    pagination_class = None

    @extend_schema(parameters=[GROUP, LIMIT], responses=RotationComplianceJSON)
    def review(self, request: Request) -> Response:
        """Produce the report: groups, the last 12 months, and the first 200 keys that are overdue."""
        wanted = _asked(request, ROTATION_COMPLIANCE)
        report = rotation.rotation_compliance(caller(request), clock.now(), wanted.days, wanted.group)
        filters = wanted.query(ROTATION_COMPLIANCE)
        record_report(request_actor(request), ROTATION_COMPLIANCE, filters, rows=report.total, form="json")
        return Response(RotationComplianceJSON(report).data)

    @extend_schema(parameters=[GROUP, LIMIT], responses=CSV)
    def review_csv(self, request: Request) -> HttpResponseBase:
        """Download every key that is accepted, overdue or not, as CSV, the oldest value first."""
        wanted, now = _asked(request, ROTATION_COMPLIANCE), clock.now()
        keys = rotation.rotated(caller(request), now, wanted.group).order_by(F("current__created_at"), "pk")
        what = rotation.key_export(now, rotation.Limits.load(wanted.days))
        filters = wanted.query(ROTATION_COMPLIANCE)
        return export(request._request, what, keys, actor=request_actor(request), filters=filters)


def _asked(request: Request, slug: str) -> Asked:
    if blank := [name for name, values in request.query_params.lists() if "" in values]:
        error = ErrorDetail("Say which, or leave the parameter out.", code="blank")
        raise ValidationError({name: [error] for name in blank})
    # A ValidationError of Django's becomes the same 400 as one of DRF's (access/errors.py).
    return asked(caller(request), request.query_params, slug)

"""Where everything of the management API stands (design §9)."""

from __future__ import annotations

import functools
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import Resolver404, URLPattern, URLResolver, include, path, re_path, resolve
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from access.api import AccessKeyViewSet, MeViewSet
from access.errors import error_body, throttled_answer
from access.member_api import MemberViewSet
from access.throttles import count_stranger
from audit.api import AuditEntryViewSet
from gateways.api import GatewayViewSet
from gateways.explaining_api import DenialViewSet
from gateways.finding_api import FindViewSet
from keys.api import ConsumerGroupViewSet, GatewayKeyViewSet
from keys.policy_api import PolicyViewSet
from keys.report_api import AccessReviewViewSet, RotationComplianceViewSet, TeamReviewViewSet
from usage.api import KeyMetricsView, UsageDayViewSet, UsageEventViewSet
from webhooks.api import DeliveryViewSet, WebhookEndpointViewSet


@functools.cache
def schema() -> dict[str, Any]:
    """Return the OpenAPI description: the same for everybody, and costly to make."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]  # drf_spectacular


class SchemaView(APIView):
    """The OpenAPI description, for anybody: JSON, or YAML for who asks for it."""

    authentication_classes = []
    permission_classes = [AllowAny]
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer]
    http_method_names = ["get", "head"]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        return Response(schema())


class DocsView(SpectacularSwaggerSplitView):
    """The description to read and to try, from files of our own."""

    authentication_classes = []


@csrf_exempt
def nothing_here(request: HttpRequest) -> JsonResponse:
    """Answer every other path below /api/."""
    try:
        count_stranger(request)
    except Throttled as throttled:
        return throttled_answer(throttled)
    detail = "There is nothing at this path."
    if not request.path.endswith("/"):
        try:
            if resolve(f"{request.path}/").func is not nothing_here:
                detail = f"Paths end in a slash: {request.path}/"
        except Resolver404:
            pass
    return JsonResponse(error_body("not_found", detail), status=404)


router = SimpleRouter()
router.register("consumer-groups", ConsumerGroupViewSet, basename="consumer-group")
router.register("gateway-keys", GatewayKeyViewSet, basename="gateway-key")
router.register("gateways", GatewayViewSet, basename="gateway")
router.register("usage-events", UsageEventViewSet, basename="usage-event")
router.register("denials", DenialViewSet, basename="denial")
router.register("audit-entries", AuditEntryViewSet, basename="audit-entry")
router.register("members", MemberViewSet, basename="member")
router.register("access-keys", AccessKeyViewSet, basename="access-key")
router.register("webhook-endpoints", WebhookEndpointViewSet, basename="webhook-endpoint")
router.register(
    r"webhook-endpoints/(?P<endpoint_id>[0-9a-fA-F-]{32,36})/deliveries", DeliveryViewSet, basename="webhook-delivery"
)

exports: dict[str, type[ViewSetMixin]] = {
    "gateway-keys": GatewayKeyViewSet,
    "usage-events": UsageEventViewSet,
    "usage-days": UsageDayViewSet,
    "audit-entries": AuditEntryViewSet,
}

reports: dict[str, type[ViewSetMixin]] = {
    "access-review": AccessReviewViewSet,
    "rotation-compliance": RotationComplianceViewSet,
}

v1: list[URLPattern | URLResolver] = [
    path("me/", MeViewSet.as_view({"get": "retrieve", "patch": "partial_update"}), name="me"),
    *(
        path(f"{name}/export.csv", view.as_view({"get": "export"}), name=f"{name}-export")
        for name, view in exports.items()
    ),
    path(
        "audit-entries/evidence/",
        AuditEntryViewSet.as_view({"get": "evidence"}, own_parameters=frozenset({"since"})),
        name="audit-entries-evidence",
    ),
    path("policy/", PolicyViewSet.as_view({"get": "retrieve", "patch": "partial_update"}), name="policy"),
    path("policy/preview/", PolicyViewSet.as_view({"post": "policy_preview"}), name="policy-preview"),
    *(path(f"reports/{slug}/", view.as_view({"get": "review"}), name=slug) for slug, view in reports.items()),
    *(
        path(f"reports/{slug}/export.csv", view.as_view({"get": "review_csv"}), name=f"{slug}-export")
        for slug, view in reports.items()
    ),
    path(
        "reports/access-review/team.csv",
        TeamReviewViewSet.as_view({"get": "review_csv"}),
        name="access-review-team-export",
    ),
    path("gateway-keys/<uuid:pk>/metrics/", KeyMetricsView.as_view(), name="gateway-key-metrics"),
    path("gateway-keys/find/", FindViewSet.as_view({"post": "find"}), name="gateway-key-find"),
    *router.urls,
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include(v1)),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(url_name="schema"), name="docs"),
    re_path("", nothing_here),
]

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
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from access.api import AccessKeyViewSet, MeView
from access.errors import error_body
from audit.api import AuditEntryViewSet
from gateways.api import GatewayViewSet
from keys.api import ConsumerGroupViewSet, GatewayKeyViewSet
from keys.policy_api import PolicyViewSet
from usage.api import KeyMetricsView, UsageEventViewSet


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
router.register("audit-entries", AuditEntryViewSet, basename="audit-entry")
router.register("access-keys", AccessKeyViewSet, basename="access-key")

exports: dict[str, type[ViewSetMixin]] = {
    "gateway-keys": GatewayKeyViewSet,
    "usage-events": UsageEventViewSet,
    "audit-entries": AuditEntryViewSet,
}

v1: list[URLPattern | URLResolver] = [
    path("me/", MeView.as_view(), name="me"),
    *(
        path(f"{name}/export.csv", view.as_view({"get": "export"}), name=f"{name}-export")
        for name, view in exports.items()
    ),
    path("policy/", PolicyViewSet.as_view({"get": "retrieve", "patch": "partial_update"}), name="policy"),
    path("policy/preview/", PolicyViewSet.as_view({"post": "policy_preview"}), name="policy-preview"),
    path("gateway-keys/<uuid:pk>/metrics/", KeyMetricsView.as_view(), name="gateway-key-metrics"),
    *router.urls,
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include(v1)),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(url_name="schema"), name="docs"),
    re_path("", nothing_here),
]

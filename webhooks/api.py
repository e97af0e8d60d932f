"""The API of webhook endpoints and of what became of the notices sent to them. Admins only (design §7)."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller, request_actor
from access.idempotency import SecretResponse, once
from access.schema import IF_MATCH
from access.serializers import StrictSerializer
from access.tagged import TaggedViewSet
from access.viewsets import ApiViewSet
from audit.parameters import InstantFilter
from webhooks import endpoints
from webhooks.endpoints import IssuedSecret, LookedUp
from webhooks.happenings import NoticeType
from webhooks.models import Delivery, DeliveryState, WebhookEndpoint
from webhooks.serializers import (
    DeliveryJSON,
    Disabling,
    EndpointChanges,
    EndpointJSON,
    IssuedSecretJSON,
    NewEndpoint,
    Redelivery,
    RedeliveryResult,
    SecretRotation,
)


class WebhookEndpointViewSet(ListModelMixin, TaggedViewSet[WebhookEndpoint]):
    """Webhook endpoints: where notices are posted to, signed as Standard Webhooks says."""

    queryset = WebhookEndpoint.objects.select_related("owner").prefetch_related("secrets")
    serializer_class = EndpointJSON
    search_fields = ["name", "url", "=id"]
    ordering_fields: ClassVar[dict[str, str]] = {
        "name": "name",
        "created_at": "created_at",
        "delivered_at": "delivered_at",
        "failing_since": "failing_since",
    }
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {
        "disable": ("already_disabled",),
        "enable": ("not_disabled",),
        "test": ("endpoint_disabled",),
        "redeliver": ("endpoint_disabled",),
    }
    looked_up: LookedUp | None = None

    def tag_of(self, obj: WebhookEndpoint) -> str:
        return endpoints.state_tag(obj)

    def before_acting(self) -> None:
        # An address is looked up before there is a transaction, which on SQLite keeps everybody from writing.
        if self.action == "create":
            wanted = NewEndpoint(data=self.request.data, context=self.get_serializer_context())
            self.looked_up = endpoints.look_up(wanted.validated_data["url"]) if wanted.is_valid() else None

    @extend_schema(request=NewEndpoint, responses={201: IssuedSecretJSON})
    @once
    def create(self, request: Request) -> Response:
        """Create an endpoint. Its signing secret is in this answer and never shown again."""
        actor, wanted = request_actor(request), self.body(NewEndpoint)
        issued = endpoints.create_endpoint(actor=actor, looked_up=self.looked_up, **wanted)
        return self._answer_with_secret(issued, status.HTTP_201_CREATED)

    @extend_schema(request=EndpointChanges, responses=EndpointJSON, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: str) -> Response:
        """Edit an endpoint; what is absent stays."""
        endpoint, changed = self.get_object(), self.body(EndpointChanges)
        actor = request_actor(request)
        edited = endpoints.edit_endpoint(actor=actor, endpoint_id=endpoint.pk, changed=changed, expected=self.expected)
        return self._answer(edited)

    @extend_schema(request=SecretRotation, responses=IssuedSecretJSON, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    @once
    def rotate_secret(self, request: Request, pk: str) -> Response:
        """Give the endpoint a new secret, in this answer alone; for an overlap, notices are signed with both."""
        endpoint, wanted = self.get_object(), self.body(SecretRotation)
        overlap = {"overlap": timedelta(seconds=wanted["overlap_seconds"])} if wanted else {}
        actor = request_actor(request)
        issued = endpoints.rotate_secret(actor=actor, endpoint_id=endpoint.pk, expected=self.expected, **overlap)
        return self._answer_with_secret(issued, status.HTTP_200_OK)

    @extend_schema(request=Disabling, responses=EndpointJSON, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    @once
    def disable(self, request: Request, pk: str) -> Response:
        """Send it nothing more. What waits counts as failed, and can be sent again later."""
        endpoint, wanted = self.get_object(), self.body(Disabling)
        actor = request_actor(request)
        return self._answer(
            endpoints.disable_endpoint(actor=actor, endpoint_id=endpoint.pk, expected=self.expected, **wanted)
        )

    @extend_schema(request=None, responses=EndpointJSON, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    @once
    def enable(self, request: Request, pk: str) -> Response:
        """Send to it again, from now on."""
        endpoint = self.get_object()
        self.body(StrictSerializer)
        actor = request_actor(request)
        return self._answer(endpoints.enable_endpoint(actor=actor, endpoint_id=endpoint.pk, expected=self.expected))

    @extend_schema(request=None, responses={202: DeliveryJSON})
    @action(detail=True, methods=["post"])
    @once
    def test(self, request: Request, pk: str) -> Response:
        """Send a notice of type `webhook_endpoint.test`. What becomes of it, its delivery says."""
        endpoint = self.get_object()
        self.body(StrictSerializer)
        delivery = endpoints.send_test(actor=request_actor(request), endpoint_id=endpoint.pk)
        return Response(DeliveryJSON(delivery).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=Redelivery, responses={202: RedeliveryResult})
    @action(detail=True, methods=["post"])
    @once
    def redeliver(self, request: Request, pk: str) -> Response:
        """Send again what has failed, each under its own id."""
        endpoint, wanted = self.get_object(), self.body(Redelivery)
        queued = endpoints.redeliver(actor=request_actor(request), endpoint_id=endpoint.pk, **wanted)
        return Response({"queued": queued}, status=status.HTTP_202_ACCEPTED)

    def _answer(self, endpoint: WebhookEndpoint) -> Response:
        return self.answer(self.get_queryset().get(pk=endpoint.pk))

    def _answer_with_secret(self, issued: IssuedSecret, status: int) -> Response:
        endpoint = self.get_queryset().get(pk=issued.endpoint.pk)
        data = self.shown_with(endpoint, {"secret": issued.value})
        return self.tagged(SecretResponse(data, again={"id": data["id"]}, status=status), endpoint)


class DeliveryFilters(FilterSet):
    state = ChoiceFilter(choices=DeliveryState.choices)
    type = ChoiceFilter("notice__type", choices=NoticeType.choices)
    created_after = InstantFilter("created_at", "gte")
    created_before = InstantFilter("created_at", "lt")


class DeliveryViewSet(ListModelMixin, RetrieveModelMixin, ApiViewSet[Delivery]):
    """What became of the notices for one endpoint: every attempt with its time, status and duration."""

    queryset = Delivery.objects.select_related("notice").prefetch_related("attempts")
    serializer_class = DeliveryJSON
    filterset_class = DeliveryFilters
    ordering_fields: ClassVar[dict[str, str]] = {"created_at": "created_at"}
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {"redeliver": ("endpoint_disabled",)}

    def get_queryset(self) -> QuerySet[Delivery]:
        if "endpoint_id" not in self.kwargs:  # the description of the API is being made
            return super().get_queryset()
        endpoints_seen = caller(self.request).visible(WebhookEndpoint.objects.all())
        endpoint = get_object_or_404(endpoints_seen, pk=self.kwargs["endpoint_id"])
        return super().get_queryset().filter(endpoint=endpoint)

    @extend_schema(request=None, responses={202: DeliveryJSON})
    @action(detail=True, methods=["post"])
    @once
    def redeliver(self, request: Request, endpoint_id: str, pk: str) -> Response:
        """Send one notice again, also one that has arrived, under the same id."""
        delivery = self.get_object()
        self.body(StrictSerializer)
        endpoints.redeliver(actor=request_actor(request), endpoint_id=UUID(endpoint_id), delivery_id=delivery.pk)
        return Response(
            self.get_serializer(self.get_queryset().get(pk=delivery.pk)).data, status=status.HTTP_202_ACCEPTED
        )

"""The API of registered gateways."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.db.models import Prefetch, QuerySet
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller, request_actor
from access.idempotency import SecretResponse, once
from access.schema import IF_MATCH, IN_FORCE_ON
from access.serializers import FlagField, NumberField, OneOfField, StrictSerializer, TextField, TextListField
from audit import clock
from audit.parameters import TextFilter
from gateways import registry
from gateways.models import ClientAddress, Gateway, GatewayToken, UsageSource
from gateways.registry import LONGEST_OVERLAP, IssuedToken
from keys.api import DecidingViewSet
from keys.models import ConsumerGroup


class TokenJSON(serializers.ModelSerializer[GatewayToken]):
    class Meta:
        model = GatewayToken
        fields = ["hint", "created_at", "valid_until"]
        read_only_fields = fields


class GatewayJSON(serializers.ModelSerializer[Gateway]):
    consumer_groups = serializers.SlugRelatedField("slug", many=True, read_only=True)  # type: ignore[var-annotated]
    tokens = serializers.SerializerMethodField()

    class Meta:
        model = Gateway
        fields = [
            "id",
            "name",
            "usage_source",
            "consumer_groups",
            "require_group",
            "client_address",
            "created_at",
            "tokens",
        ]
        read_only_fields = fields

    @extend_schema_field(TokenJSON(many=True))
    def get_tokens(self, gateway: Gateway) -> list[dict[str, Any]]:
        """Those that are accepted now, the current one first; of each only the hint."""
        now = clock.now()
        return [dict(TokenJSON(token).data) for token in gateway.tokens.all() if token.is_usable(now)]


class IssuedTokenJSON(GatewayJSON):
    token = serializers.CharField(help_text="`kt_gt_…`. Shown this once.")

    class Meta(GatewayJSON.Meta):
        fields = [*GatewayJSON.Meta.fields, "token"]


class GroupsField(TextListField):
    """Slugs of groups."""

    default_error_messages = {"does_not_exist": "There is no consumer group “{slug}”."}

    def to_internal_value(self, data: Any) -> list[ConsumerGroup]:
        slugs = list(dict.fromkeys(super().to_internal_value(data)))
        visible = caller(self.context["request"]).visible(ConsumerGroup.objects.all())
        groups = {group.slug: group for group in visible.filter(slug__in=slugs)}
        for slug in slugs:
            if slug not in groups:
                self.fail("does_not_exist", slug=slug[:60])
        return list(groups.values())


class GatewayChanges(StrictSerializer):
    """What is absent stays."""

    name = TextField(required=False)
    usage_source = OneOfField(UsageSource.choices, required=False, help_text="Where its requests are counted.")
    consumer_groups = GroupsField(required=False, help_text="Slugs of the groups it may serve. Empty: all.")
    require_group = FlagField(
        required=False, help_text="Refuse scoped keys where the gateway does not say which group the traffic is of."
    )
    client_address = OneOfField(
        ClientAddress.choices, required=False, help_text="Where the client's address is read from."
    )


class NewGateway(GatewayChanges):
    name = TextField()


class TokenRotation(StrictSerializer):
    overlap_seconds = NumberField(
        required=False,
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the old token stays accepted. 0: not at all. Absent: an hour.",
    )


class GatewayFilters(FilterSet):
    usage_source = ChoiceFilter(choices=UsageSource.choices)
    consumer_group = TextFilter(method="limited_to", help_text="A slug: gateways that are limited to it.")

    def limited_to(self, gateways: QuerySet[Gateway], name: str, slug: str) -> QuerySet[Gateway]:
        # Of a group that the caller may not see, a list tells nothing.
        groups = caller(cast("Request", self.request)).visible(ConsumerGroup.objects.filter(slug=slug))
        return gateways.filter(consumer_groups__in=groups.values("pk"))


class GatewayViewSet(ListModelMixin, DecidingViewSet[Gateway]):
    """Gateways: the enforcement points that ask whether a request may pass."""

    queryset = Gateway.objects.all()
    serializer_class = GatewayJSON
    filterset_class = GatewayFilters
    search_fields = ["name", "=id"]
    ordering_fields = {"name": "name", "created_at": "created_at"}

    def get_queryset(self) -> QuerySet[Gateway]:
        # Of the groups, too, members learn only what they may see.
        groups = ConsumerGroup.objects.order_by("slug")
        if self.request is not None and self.request.user.is_authenticated:
            groups = caller(self.request).visible(groups)
        return super().get_queryset().prefetch_related(Prefetch("consumer_groups", groups), "tokens")

    def tag_of(self, obj: Gateway) -> str:
        return registry.state_tag(obj)

    @extend_schema(request=NewGateway, responses={201: IssuedTokenJSON})
    @once
    def create(self, request: Request) -> Response:
        """Register a gateway. Its token is in this answer and never shown again."""
        issued = registry.create_gateway(actor=request_actor(request), **self.body(NewGateway))
        return self._answer_with_token(issued, status.HTTP_201_CREATED)

    @extend_schema(request=GatewayChanges, responses=GatewayJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    def partial_update(self, request: Request, pk: str) -> Response:
        """Edit a gateway; what is absent stays."""
        gateway, changed = self.get_object(), self.body(GatewayChanges)
        actor = request_actor(request)
        edited = registry.edit_gateway(actor=actor, gateway_id=gateway.pk, changed=changed, expected=self.expected)
        self.change = edited.narrowing
        return self.answer(self.get_queryset().get(pk=gateway.pk))

    @extend_schema(request=TokenRotation, responses=IssuedTokenJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"], url_path="rotate-token")
    @once
    def rotate_token(self, request: Request, pk: str) -> Response:
        """Give the gateway a new token, in this answer alone; the old one stays accepted for an overlap."""
        gateway, wanted = self.get_object(), self.body(TokenRotation)
        overlap = {"overlap": timedelta(seconds=wanted["overlap_seconds"])} if wanted else {}
        actor = request_actor(request)
        issued = registry.rotate_token(actor=actor, gateway_id=gateway.pk, expected=self.expected, **overlap)
        self.change = issued.gateway.narrowing
        return self._answer_with_token(issued, status.HTTP_200_OK)

    def _answer_with_token(self, issued: IssuedToken, status: int) -> Response:
        gateway = self.get_queryset().get(pk=issued.gateway.pk)
        data = self.shown_with(gateway, {"token": issued.value})
        return self.tagged(SecretResponse(data, again={"id": data["id"]}, status=status), gateway)

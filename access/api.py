"""The API of one's own access keys, and of who one is."""

from __future__ import annotations

from typing import Any

from django.db import models
from django_filters import FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.access_keys import create_access_key, revoke_access_key
from access.actors import caller, request_actor
from access.confirmation import require_confirmed_caller
from access.idempotency import SecretResponse, once
from access.models import AccessKey
from access.rules import Role
from access.serializers import InstantField, StrictSerializer, TextField
from access.viewsets import ApiViewSet
from audit.parameters import TextFilter


class AccessKeyStatus(models.TextChoices):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class AccessKeyJSON(serializers.ModelSerializer[AccessKey]):
    owner = serializers.CharField(source="owner.username")
    status = serializers.SerializerMethodField()

    class Meta:
        model = AccessKey
        fields = ["id", "name", "owner", "hint", "status", "created_at", "expires_at", "last_used_at", "revoked_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(AccessKeyStatus.choices))
    def get_status(self, access_key: AccessKey) -> str:
        return access_key.status()


class IssuedAccessKeyJSON(AccessKeyJSON):
    value = serializers.CharField(help_text="`kt_ak_…`. Shown this once.")

    class Meta(AccessKeyJSON.Meta):
        fields = [*AccessKeyJSON.Meta.fields, "value"]


class NewAccessKey(StrictSerializer):
    name = TextField(help_text="What will use it.")
    expires_at = InstantField(required=False, allow_null=True, help_text="Absent or null: until it is revoked.")


class AccessKeyFilters(FilterSet):
    owner = TextFilter("owner__username", help_text="A username.")


class AccessKeyViewSet(ListModelMixin, RetrieveModelMixin, ApiViewSet[AccessKey]):
    """A member's own credentials for this API; an Admin sees and may revoke everybody's."""

    queryset = AccessKey.objects.select_related("owner")
    serializer_class = AccessKeyJSON
    filterset_class = AccessKeyFilters
    search_fields = ["name", "hint", "=id"]
    ordering_fields = {name: name for name in ("name", "created_at", "expires_at", "last_used_at")}

    @extend_schema(request=NewAccessKey, responses={201: IssuedAccessKeyJSON})
    @once
    def create(self, request: Request) -> Response:
        """Make an access key for oneself. Its value is in this answer and never shown again."""
        require_confirmed_caller(request)
        issued = create_access_key(actor=request_actor(request), owner=caller(request), **self.body(NewAccessKey))
        data = {**self.get_serializer(issued.access_key).data, "value": issued.value}
        return SecretResponse(data, again={"id": data["id"]}, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=AccessKeyJSON)
    @action(detail=True, methods=["post"])
    @once
    def revoke(self, request: Request, pk: str) -> Response:
        """Make an access key useless at once. Of a revoked one nothing changes."""
        self.body(StrictSerializer)
        access_key = revoke_access_key(actor=request_actor(request), access_key_id=self.get_object().pk)
        return Response(self.get_serializer(access_key).data)


class Me(serializers.Serializer[Any]):
    username = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    email = serializers.CharField()
    credential = serializers.CharField(help_text="`session`, or which access key.")


class MeView(APIView):
    """Who calls, and by which credential."""

    http_method_names = ["get", "head"]

    @extend_schema(responses=Me)
    def get(self, request: Request) -> Response:
        member = caller(request)
        facts = {name: getattr(member, name) for name in ("username", "name", "role", "email")}
        return Response({**facts, "credential": request_actor(request).credential})

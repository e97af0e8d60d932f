"""The API of one's own access keys, and of who one is."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.access_keys import create_access_key, edit_access_key, revoke_access_key
from access.actors import caller, request_actor
from access.confirmation import require_confirmed_caller
from access.idempotency import SecretResponse, once
from access.members import set_preferences
from access.models import AccessKey, AccessKeyQuerySet, Member, NoticeMail
from access.rules import Role
from access.serializers import FlagField, InstantField, OneOfField, StrictSerializer, TextField, TextListField
from access.viewsets import ApiViewSet, refuse_parameters
from audit.parameters import FlagFilter, TextFilter


class AccessKeyStatus(models.TextChoices):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class AccessKeyJSON(serializers.ModelSerializer[AccessKey]):
    owner = serializers.CharField(source="owner.username")
    status = serializers.SerializerMethodField()
    consumer_groups = serializers.SerializerMethodField()

    class Meta:
        model = AccessKey
        fields = [
            *("id", "name", "owner", "hint", "status", "read_only", "consumer_groups"),
            *("created_at", "expires_at", "last_used_at", "revoked_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.CharField(), allow_null=True))
    def get_consumer_groups(self, access_key: AccessKey) -> list[str] | None:
        """Slugs of the groups whose keys alone it sees and touches; null: as its owner's role says."""
        return access_key.group_slugs()

    @extend_schema_field(serializers.ChoiceField(AccessKeyStatus.choices))
    def get_status(self, access_key: AccessKey) -> str:
        return access_key.status()


class IssuedAccessKeyJSON(AccessKeyJSON):
    value = serializers.CharField(help_text="`kt_ak_…`. Shown this once.")

    class Meta(AccessKeyJSON.Meta):
        fields = [*AccessKeyJSON.Meta.fields, "value"]


class NewAccessKey(StrictSerializer):
    name = TextField(help_text="What will use it.")
    expires_at = InstantField(
        required=False,
        allow_null=True,
        help_text="Absent: after 90 days, or what the installation has set. Null: never, where it has no ceiling.",
    )
    read_only = FlagField(  # type: ignore[assignment]  # DRF takes its fields off the class
        required=False, help_text="It changes nothing, whatever its owner may. Default: false."
    )
    consumer_groups = TextListField(
        required=False,
        allow_null=True,
        help_text="Slugs of the groups whose keys alone it sees and touches. Absent or null: as the role says.",
    )


class AccessKeyChanges(StrictSerializer):
    """What is absent stays."""

    name = TextField(required=False, help_text="What uses it.")


class AccessKeyFilters(FilterSet):
    status = ChoiceFilter(choices=AccessKeyStatus.choices, method="is_in_status")
    read_only = FlagFilter("read_only")
    consumer_group = TextFilter("consumer_groups__slug", help_text="Held to this group, among others; a slug.")
    owner = TextFilter("owner__username", help_text="A username.")

    def is_in_status(self, keys: AccessKeyQuerySet, name: str, status: str) -> AccessKeyQuerySet:
        return keys.in_status(status)


class AccessKeyViewSet(ListModelMixin, RetrieveModelMixin, ApiViewSet[AccessKey]):
    """A member's own credentials for this API; an Admin sees and may revoke everybody's."""

    queryset = AccessKey.objects.select_related("owner").prefetch_related("consumer_groups")
    serializer_class = AccessKeyJSON
    filterset_class = AccessKeyFilters
    search_fields = ["name", "hint", "=id"]
    ordering_fields = {name: name for name in ("name", "created_at", "expires_at", "last_used_at")}

    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {"partial_update": ("access_key_revoked",)}

    @extend_schema(request=NewAccessKey, responses={201: IssuedAccessKeyJSON})
    @once
    def create(self, request: Request) -> Response:
        """Make an access key for oneself. Its value is in this answer and never shown again."""
        require_confirmed_caller(request)
        issued = create_access_key(actor=request_actor(request), owner=caller(request), **self.body(NewAccessKey))
        data = {**self.get_serializer(issued.access_key).data, "value": issued.value}
        return SecretResponse(data, again={"id": data["id"]}, status=status.HTTP_201_CREATED)

    @extend_schema(request=AccessKeyChanges, responses=AccessKeyJSON)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Give an access key another name. What it may do never changes: make another one instead."""
        access_key, changed = self.get_object(), self.body(AccessKeyChanges)
        edited = edit_access_key(actor=request_actor(request), access_key_id=access_key.pk, changed=changed)
        return Response(self.get_serializer(edited).data)

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
    time_zone = serializers.CharField(help_text="In which the console shows times; the API speaks UTC.")
    notice_mail = serializers.ChoiceField(NoticeMail.choices, help_text="Which notices are mailed.")
    credential = serializers.CharField(help_text="`session`, or which access key.")
    access_key = AccessKeyJSON(allow_null=True, help_text="The access key, and what it is held to; null for a session.")


class Preferences(StrictSerializer):
    """What is absent stays."""

    time_zone = TextField(required=False, help_text="An IANA name, such as `Europe/Berlin`.")
    notice_mail = OneOfField(NoticeMail.choices, required=False)


class MeViewSet(ApiViewSet[Member]):
    """Who calls, by which credential, and what they want for themselves."""

    # Everybody sees who they are.
    queryset = None
    named_permissions: ClassVar[dict[str, str]] = {"partial_update": "access.prefer_member"}
    serializer_class = Me
    filter_backends = []
    pagination_class = None

    @extend_schema(responses=Me, operation_id="me_retrieve")
    def retrieve(self, request: Request) -> Response:
        """Say who calls, by which credential, and what an access key is held to."""
        refuse_parameters(request)
        return self._answer(caller(request))

    @extend_schema(request=Preferences, responses=Me, operation_id="me_partial_update")
    def partial_update(self, request: Request) -> Response:
        """Set one's own preferences; what is absent stays. Not by an access key that is held to less than its owner."""
        changed = self.body(Preferences)
        member = set_preferences(actor=request_actor(request), member_id=caller(request).pk, changed=changed)
        return self._answer(member)

    def _answer(self, member: Member) -> Response:
        facts = {name: getattr(member, name) for name in ("username", "name", "role", "email")}
        facts |= {"time_zone": member.time_zone, "notice_mail": member.notice_mail}
        access_key = AccessKeyJSON(self.request.auth).data if isinstance(self.request.auth, AccessKey) else None
        credential = request_actor(self.request).credential
        return Response({**facts, "credential": credential, "access_key": access_key})

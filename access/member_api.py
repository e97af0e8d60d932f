"""The API of members, for Admins: who they are, inviting them, their role, taking them out. As in the console."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db import models
from django.db.models import QuerySet
from django.urls import reverse
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import request_actor
from access.confirmation import require_confirmed_caller
from access.idempotency import SecretResponse, once
from access.invitations import Invited, invite_member, replace_invitation, withdraw_invitation
from access.members import edit_member, state_tag
from access.models import Invitation as MemberInvitation
from access.models import Member
from access.rules import Role
from access.schema import IF_MATCH
from access.serializers import OneOfField, StrictSerializer, TextField, TextListField
from access.tagged import TaggedViewSet


class MemberState(models.TextChoices):
    """invited: they have not chosen a password yet, whatever has become of the link."""

    ACTIVE = "active"
    INVITED = "invited"
    OUT = "out"


class MemberJSON(serializers.ModelSerializer[Member]):
    email = serializers.CharField(help_text="Empty where none is known.")
    state = serializers.SerializerMethodField()

    class Meta:
        model = Member
        fields = ["id", "username", "name", "email", "role", "state", "date_joined", "last_login"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(MemberState.choices))
    def get_state(self, member: Member) -> str:
        if member.is_active:
            return MemberState.ACTIVE.value
        return (MemberState.OUT if member.has_joined else MemberState.INVITED).value


class InvitedJSON(MemberJSON):
    link = serializers.CharField(help_text="With it they choose their password. Shown this once.")
    link_expires_at = serializers.DateTimeField()

    class Meta(MemberJSON.Meta):
        fields = [*MemberJSON.Meta.fields, "link", "link_expires_at"]


class MemberChanges(StrictSerializer):
    """What is absent stays."""

    name = TextField(required=False)
    email = TextField(required=False)
    role = OneOfField(Role.choices, required=False)


class ManagedGroupsField(TextListField):
    """Slugs of consumer groups."""

    default_error_messages = {"does_not_exist": "There is no consumer group “{slug}”."}

    def to_internal_value(self, data: Any) -> list[Any]:
        slugs = list(dict.fromkeys(super().to_internal_value(data)))
        # A model of the house above, reached by its name (design §10).
        model = cast(Any, MemberInvitation._meta.get_field("groups").related_model)
        found = model._default_manager.filter(slug__in=slugs)
        groups = {group.slug: group for group in found}
        for slug in slugs:
            if slug not in groups:
                self.fail("does_not_exist", slug=slug[:60])
        return list(groups.values())


class Invitation(StrictSerializer):
    username = TextField()
    role = OneOfField(Role.choices)
    name = TextField(required=False)
    email = TextField(required=False)
    groups = ManagedGroupsField(
        required=False,
        max_length=100,
        help_text="Slugs of the consumer groups that name a Manager among their managers once they have joined.",
    )


class MemberFilters(FilterSet):
    role = ChoiceFilter(choices=Role.choices)
    state = ChoiceFilter(choices=MemberState.choices, method="in_state")

    def in_state(self, members: QuerySet[Member], name: str, state: str) -> QuerySet[Member]:
        if state == MemberState.ACTIVE:
            return members.filter(is_active=True)
        waiting = models.Q(password__startswith=UNUSABLE_PASSWORD_PREFIX, external_accounts__isnull=True)
        return members.filter(waiting if state == MemberState.INVITED else ~waiting, is_active=False)


class MemberViewSet(ListModelMixin, TaggedViewSet[Member]):
    """Members of this installation. Nobody is deleted: who is taken out is kept out."""

    queryset = Member.objects.prefetch_related("external_accounts")
    serializer_class = MemberJSON
    filterset_class = MemberFilters
    lookup_value_regex = "[0-9]{1,18}"
    search_fields = ["username", "name", "email"]
    ordering_fields = {name: name for name in ("username", "name", "role", "last_login")}

    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {
        "partial_update": ("last_admin",),
        "invite_again": ("already_joined",),
        "withdraw_invitation": ("already_joined",),
        "take_out": ("last_admin",),
        "let_in": ("not_joined",),
    }

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Ask a session for a fresh proof before a member is changed; not before an invitation is withdrawn."""
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS and self.action != "withdraw_invitation":
            require_confirmed_caller(request)

    def tag_of(self, obj: Member) -> str:
        return state_tag(obj)

    @extend_schema(request=Invitation, responses={201: InvitedJSON})
    @once
    def create(self, request: Request) -> Response:
        """Invite a member. The link with which they choose their password is in this answer and never shown again."""
        invited = invite_member(actor=request_actor(request), **self.body(Invitation))
        return self._answer_with_link(invited, status.HTTP_201_CREATED)

    @extend_schema(request=MemberChanges, responses=MemberJSON, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: str) -> Response:
        """Edit a member, or give them another role; what is absent stays."""
        return self._edit(self.body(MemberChanges))

    @extend_schema(request=None, responses=InvitedJSON)
    @action(detail=True, methods=["post"], url_path="invite-again")
    @once
    def invite_again(self, request: Request, pk: str) -> Response:
        """Give a member who has not joined another link, in this answer alone; the older one leads nowhere."""
        member = self.get_object()
        self.body(StrictSerializer)
        return self._answer_with_link(replace_invitation(actor=request_actor(request), member_id=member.pk), 200)

    @extend_schema(request=None, responses=MemberJSON)
    @action(detail=True, methods=["post"], url_path="withdraw-invitation")
    @once
    def withdraw_invitation(self, request: Request, pk: str) -> Response:
        """Let the link of a member who has not joined lead nowhere."""
        member = self.get_object()
        self.body(StrictSerializer)
        return self.answer(withdraw_invitation(actor=request_actor(request), member_id=member.pk))

    @extend_schema(request=None, responses=MemberJSON, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"], url_path="take-out")
    @once
    def take_out(self, request: Request, pk: str) -> Response:
        """Keep a member out: their sessions end, and their access keys are revoked for good. Nothing for who is out."""
        self.body(StrictSerializer)
        return self._edit({"is_active": False})

    @extend_schema(request=None, responses=MemberJSON, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"], url_path="let-in")
    @once
    def let_in(self, request: Request, pk: str) -> Response:
        """Let a member who was taken out sign in again. Their access keys stay revoked."""
        self.body(StrictSerializer)
        return self._edit({"is_active": True})

    def _edit(self, changed: dict[str, Any]) -> Response:
        member = self.get_object()
        actor = request_actor(self.request)
        return self.answer(edit_member(actor=actor, member_id=member.pk, changed=changed, expected=self.expected))

    def _answer_with_link(self, invited: Invited, status: int) -> Response:
        # What stands after "#" browsers send to no server.
        link = f"{self.request.build_absolute_uri(reverse('join'))}#{invited.secret}"
        expires_at = serializers.DateTimeField().to_representation(invited.invitation.expires_at)
        data = self.shown_with(invited.member, {"link": link, "link_expires_at": expires_at})
        return self.tagged(SecretResponse(data, again={"id": data["id"]}, status=status), invited.member)

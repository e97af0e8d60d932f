"""The API of gateway keys and consumer groups. It reads and shows; the verbs decide (keys/lifecycle.py)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

from django.db.models import Model, Prefetch
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import request_actor
from access.idempotency import SecretResponse, once
from access.schema import CSV, IF_MATCH, IN_FORCE_ON
from access.serializers import StrictSerializer
from access.tagged import TaggedViewSet
from audit import clock
from audit.exports import export, filters_of
from keys import groups, key_search, lifecycle
from keys.bulk_api import BulkActions
from keys.csv_export import key_export
from keys.filters import KeyFilters
from keys.issuing import IssuedKey
from keys.key_lists import KeyPages
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.narrowing import narrowing
from keys.policy_api import ChangedGroupJSON, ImpactJSON, aligned_json
from keys.policy_impact import as_json
from keys.serializers import (
    GraceExtension,
    GroupChanges,
    GroupJSON,
    GroupRules,
    IssuedKeyJSON,
    KeyChanges,
    KeyJSON,
    NewGroup,
    NewKey,
    Revocation,
    Rotation,
)
from keys.snapshots import state_tag


class DecidingViewSet[M: Model](TaggedViewSet[M]):
    """Views of what gateways decide by."""

    def before_repeating(self) -> None:
        # The first answer may never have arrived, and nor may the change: its console died, or still waits.
        with narrowing() as self.change:
            self.change.of_what_was_done_before()


class GatewayKeyViewSet(BulkActions, ListModelMixin, DecidingViewSet[GatewayKey]):
    """Gateway keys. Lists show them in every status unless they are filtered; no key is ever deleted."""

    queryset = (
        GatewayKey.objects.with_metrics()
        .select_related("consumer_group", "created_by", "revoked_by", "owner")
        .prefetch_related(Prefetch("versions", KeyVersion.objects.select_related("metrics")))
    )
    serializer_class = KeyJSON
    filterset_class = KeyFilters
    pagination_class = KeyPages
    search = staticmethod(key_search.search)
    ordering_fields = {
        "name": "name",
        "created_at": "created_at",
        "expires_at": "expires_at",
        "last_used_at": "metrics__last_used_at",
        "requests_24h": "metrics__requests_24h",
    }

    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("bulk_revoke", "bulk_rotate", "bulk_edit"), ("nothing_done",)),
        "partial_update": ("key_revoked", "key_expired"),
        "rotate": ("key_revoked", "key_expired", "key_disabled"),
        "end_grace": ("key_revoked", "key_expired", "not_in_grace"),
        "extend_grace": ("key_revoked", "key_expired", "not_in_grace"),
        "disable": ("key_revoked", "key_expired", "key_disabled"),
        "enable": ("key_revoked", "key_expired", "not_disabled", "policy_breached"),
    }

    def tag_of(self, obj: GatewayKey) -> str:
        return state_tag(obj)

    @extend_schema(request=NewKey, responses={201: IssuedKeyJSON})
    @once
    def create(self, request: Request) -> Response:
        """Create a key. Its value is in this answer and never shown again."""
        issued = lifecycle.create(actor=request_actor(request), **self.body(NewKey))
        return self._answer_with_value(issued, status.HTTP_201_CREATED)

    @extend_schema(request=KeyChanges, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    def partial_update(self, request: Request, pk: str) -> Response:
        """Edit a key; what is absent stays. With `If-Match`, only the key as the caller knows it (else 412)."""
        key, changed = self.get_object(), self.body(KeyChanges)
        actor = request_actor(request)
        key = lifecycle.edit(actor=actor, key_id=key.pk, changed=changed, expected=self.expected)
        return self._answer_anew(key)

    @extend_schema(request=Rotation, responses=IssuedKeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def rotate(self, request: Request, pk: str) -> Response:
        """Give the key a new value, in this answer alone; the old one stays accepted for a grace period."""
        key, wanted = self.get_object(), self.body(Rotation)
        seconds = wanted.pop("grace_seconds", None)
        grace = None if seconds is None else timedelta(seconds=seconds)
        actor = request_actor(request)
        issued = lifecycle.rotate(actor=actor, key_id=key.pk, grace=grace, expected=self.expected, **wanted)
        self.change = issued.key.narrowing
        return self._answer_with_value(issued, status.HTTP_200_OK)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"], url_path="end-grace")
    @once
    def end_grace(self, request: Request, pk: str) -> Response:
        """Refuse every value but the current one from now on."""
        return self._do(lifecycle.end_grace)

    @extend_schema(request=GraceExtension, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"], url_path="extend-grace")
    @once
    def extend_grace(self, request: Request, pk: str) -> Response:
        """Let the older values that are still accepted be so for longer; say until when, or for how long from now."""
        key, wanted = self.get_object(), self.body(GraceExtension)
        seconds = wanted.pop("grace_seconds", None)
        grace = None if seconds is None else timedelta(seconds=seconds)
        actor = request_actor(request)
        key = lifecycle.extend_grace(actor=actor, key_id=key.pk, grace=grace, expected=self.expected, **wanted)
        return self._answer_anew(key)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def disable(self, request: Request, pk: str) -> Response:
        """Refuse the key until it is enabled again."""
        return self._do(lifecycle.disable)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def enable(self, request: Request, pk: str) -> Response:
        """Accept a disabled key again."""
        return self._do(lifecycle.enable)

    @extend_schema(request=Revocation, responses=KeyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def revoke(self, request: Request, pk: str) -> Response:
        """Refuse the key for good. Of a revoked key nothing changes."""
        key = self.get_object()
        wanted = self.body(Revocation)
        key = lifecycle.revoke(actor=request_actor(request), key_id=key.pk, expected=self.expected, **wanted)
        return self._answer_anew(key)

    @extend_schema(responses=CSV, filters=True)
    def export(self, request: Request) -> HttpResponseBase:
        """Download what the list with the same parameters shows, as CSV."""
        return export(
            request._request,
            key_export(clock.now()),
            self.filter_queryset(self.get_queryset()),
            actor=request_actor(request),
            filters=filters_of(request.query_params),
        )

    def _do(self, verb: Callable[..., GatewayKey]) -> Response:
        """Let a verb that takes no particulars act on the key."""
        key = self.get_object()
        self.body(StrictSerializer)
        return self._answer_anew(verb(actor=request_actor(self.request), key_id=key.pk, expected=self.expected))

    def _answer_anew(self, changed: GatewayKey) -> Response:
        """Answer with the key as it is now, also where the change has taken it out of the caller's sight."""
        self.change = changed.narrowing
        return self.answer(self.get_queryset().get(pk=changed.pk))

    def _answer_with_value(self, issued: IssuedKey, status: int) -> Response:
        key = self.get_queryset().get(pk=issued.key.pk)
        data = self.shown_with(key, {"value": issued.value})
        again = {"id": data["id"], "version": issued.version.number}
        return self.tagged(SecretResponse(data, again=again, status=status), key)


class ConsumerGroupViewSet(ListModelMixin, DecidingViewSet[ConsumerGroup]):
    """Consumer groups: what keys are scoped to, and the policy for them."""

    queryset = ConsumerGroup.objects.prefetch_related("managers")
    serializer_class = GroupJSON
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    search_fields = ["name", "slug", "description"]
    ordering_fields = {"name": "name", "slug": "slug", "created_at": "created_at"}
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {"partial_update": ("policy_breaks_keys",)}

    def tag_of(self, obj: ConsumerGroup) -> str:
        return groups.state_tag(obj)

    @extend_schema(request=NewGroup, responses={201: GroupJSON})
    @once
    def create(self, request: Request) -> Response:
        """Create a consumer group."""
        group = groups.create_group(actor=request_actor(request), **self.body(NewGroup))
        return self.answer(group, status.HTTP_201_CREATED)

    @extend_schema(request=GroupChanges, responses=ChangedGroupJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    def partial_update(self, request: Request, slug: str) -> Response:
        """Edit a group; what is absent stays.

        A stricter policy that existing keys do not keep to needs `existing_keys`; without it 409 `policy_breaks_keys`,
        with their `count` and the first `ids`, and nothing is changed.
        """
        group, changed = self.get_object(), self.body(GroupChanges)
        choice = changed.pop("existing_keys", None)
        group = groups.edit_group(
            actor=request_actor(request),
            group_id=group.pk,
            changed=changed,
            existing_keys=choice,
            expected=self.expected,
        )
        self.change = group.narrowing
        return self.tagged(Response(self.shown_with(group, aligned_json(group, choice))), group)

    @extend_schema(request=GroupRules, responses=ImpactJSON)
    @action(detail=True, methods=["post"], url_path="policy-preview")
    def policy_preview(self, request: Request, slug: str) -> Response:
        """Say which existing keys an edit of the group would break, and in what; nothing is changed."""
        group, changed = self.get_object(), self.body(GroupRules)
        found = groups.preview_group(actor=request_actor(request), group_id=group.pk, changed=changed)
        return Response(as_json(found))

"""The API of gateway keys and consumer groups. It reads and shows; the verbs decide (keys/lifecycle.py)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Model, Prefetch
from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller, request_actor
from access.errors import ApiError
from access.idempotency import SecretResponse, once
from access.refusals import Forbidden
from access.schema import CSV, IF_MATCH, IN_FORCE_ON
from access.serializers import StrictSerializer
from access.viewsets import ApiViewSet
from audit.actions import AuditAction
from audit.exports import csv_response, filters_of, record_export
from keys import bulk, groups, key_search, lifecycle
from keys.csv_export import COLUMNS, cell, with_version
from keys.filters import KeyFilters
from keys.issuing import IssuedKey
from keys.key_lists import KeyPages
from keys.models import ConsumerGroup, GatewayKey, KeyVersion
from keys.narrowing import narrowing
from keys.policy_api import ChangedGroupJSON, ImpactJSON, aligned_json
from keys.policy_impact import as_json
from keys.serializers import (
    BulkRevocation,
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
    RevokeResultsJSON,
    Rotation,
    etag_of,
)
from keys.status import KeyStatus

# Rows read at once for an export.
CHUNK: Final = 500
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class DecidingViewSet[M: Model](ApiViewSet[M]):
    """Views of what gateways decide by."""

    def before_repeating(self) -> None:
        # The first answer may never have arrived, and nor may the change: its console died, or still waits.
        with narrowing() as self.change:
            self.change.of_what_was_done_before()


class GatewayKeyViewSet(ListModelMixin, RetrieveModelMixin, DecidingViewSet[GatewayKey]):
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

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show one key, with the ETag that `If-Match` takes."""
        return self._answer(self.get_object())

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
        with transaction.atomic():
            if expected := request.headers.get("If-Match"):
                _require_match(GatewayKey.objects.select_for_update(no_key=True).get(pk=key.pk), expected)
            key = lifecycle.edit(actor=request_actor(request), key_id=key.pk, changed=changed)
        return self._answer_anew(key)

    @extend_schema(request=Rotation, responses=IssuedKeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def rotate(self, request: Request, pk: str) -> Response:
        """Give the key a new value, in this answer alone; the old one stays accepted for a grace period."""
        key, wanted = self.get_object(), self.body(Rotation)
        seconds = wanted.pop("grace_seconds", None)
        grace = None if seconds is None else timedelta(seconds=seconds)
        issued = lifecycle.rotate(actor=request_actor(request), key_id=key.pk, grace=grace, **wanted)
        self.change = issued.key.narrowing
        return self._answer_with_value(issued, status.HTTP_200_OK)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"], url_path="end-grace")
    @once
    def end_grace(self, request: Request, pk: str) -> Response:
        """Refuse every value but the current one from now on."""
        return self._do(lifecycle.end_grace)

    @extend_schema(request=GraceExtension, responses=KeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"], url_path="extend-grace")
    @once
    def extend_grace(self, request: Request, pk: str) -> Response:
        """Let the older values that are still accepted be so for longer; say until when, or for how long from now."""
        key, wanted = self.get_object(), self.body(GraceExtension)
        seconds = wanted.pop("grace_seconds", None)
        grace = None if seconds is None else timedelta(seconds=seconds)
        key = lifecycle.extend_grace(actor=request_actor(request), key_id=key.pk, grace=grace, **wanted)
        return self._answer_anew(key)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def disable(self, request: Request, pk: str) -> Response:
        """Refuse the key until it is enabled again."""
        return self._do(lifecycle.disable)

    @extend_schema(request=None, responses=KeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def enable(self, request: Request, pk: str) -> Response:
        """Accept a disabled key again."""
        return self._do(lifecycle.enable)

    @extend_schema(request=Revocation, responses=KeyJSON, parameters=[IN_FORCE_ON])
    @action(detail=True, methods=["post"])
    @once
    def revoke(self, request: Request, pk: str) -> Response:
        """Refuse the key for good. Of a revoked key nothing changes."""
        key = self.get_object()
        key = lifecycle.revoke(actor=request_actor(request), key_id=key.pk, **self.body(Revocation))
        return self._answer_anew(key)

    @extend_schema(request=BulkRevocation, responses=RevokeResultsJSON, filters=False, parameters=[IN_FORCE_ON])
    @action(detail=False, methods=["post"], url_path="bulk-revoke", pagination_class=None)
    @once
    def bulk_revoke(self, request: Request) -> Response:
        """Revoke many keys, each on its own; the answer says of each what became of it, in the order given."""
        wanted, actor = self.body(BulkRevocation), request_actor(request)
        ids = list(dict.fromkeys(wanted.pop("ids")))
        visible = set(caller(request).visible(GatewayKey.objects.filter(pk__in=ids)).values_list("pk", flat=True))
        fix = bulk.Revoke(**wanted)
        done = bulk.apply_many(actor=actor, fix=fix, key_ids=[pk for pk in ids if pk in visible])
        results = {result.key_id: result for result in done}
        bulk.record_refusals(actor, done)
        self.change = next((key.narrowing for result in done if (key := result.key)), None)
        return Response({"results": [_result_json(pk, results.get(pk)) for pk in ids]})

    @extend_schema(responses=CSV, filters=True)
    def export(self, request: Request) -> StreamingHttpResponse:
        """Download what the list with the same parameters shows, as CSV."""
        keys = self.filter_queryset(self.get_queryset()).prefetch_related(None)
        record_export(
            action=AuditAction.KEY_EXPORTED,
            actor=request_actor(request),
            object_type="gateway_key",
            filters=filters_of(request.query_params),
            rows=keys.count(),
        )
        rows = ([cell(key, column) for column in COLUMNS] for key in with_version(keys).iterator(CHUNK))
        return csv_response(request._request, "gateway-keys.csv", COLUMNS, rows)

    def _do(self, verb: Callable[..., GatewayKey]) -> Response:
        """Let a verb that takes no particulars act on the key."""
        key = self.get_object()
        self.body(StrictSerializer)
        return self._answer_anew(verb(actor=request_actor(self.request), key_id=key.pk))

    def _answer(self, key: GatewayKey) -> Response:
        return Response(self.get_serializer(key).data, headers={"ETag": etag_of(key)})

    def _answer_anew(self, changed: GatewayKey) -> Response:
        """Answer with the key as it is now, also where the change has taken it out of the caller's sight."""
        self.change = changed.narrowing
        return self._answer(self.get_queryset().get(pk=changed.pk))

    def _answer_with_value(self, issued: IssuedKey, status: int) -> Response:
        key = self.get_queryset().get(pk=issued.key.pk)
        data = {**self.get_serializer(key).data, "value": issued.value}
        response = SecretResponse(data, again={"id": data["id"], "version": issued.version.number}, status=status)
        response["ETag"] = etag_of(key)
        return response


class ConsumerGroupViewSet(ListModelMixin, RetrieveModelMixin, DecidingViewSet[ConsumerGroup]):
    """Consumer groups: what keys are scoped to, and the policy for them."""

    queryset = ConsumerGroup.objects.prefetch_related("managers")
    serializer_class = GroupJSON
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    search_fields = ["name", "slug", "description"]
    ordering_fields = {"name": "name", "slug": "slug", "created_at": "created_at"}

    @extend_schema(request=NewGroup, responses={201: GroupJSON})
    @once
    def create(self, request: Request) -> Response:
        """Create a consumer group."""
        group = groups.create_group(actor=request_actor(request), **self.body(NewGroup))
        return Response(self.get_serializer(group).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=GroupChanges, responses=ChangedGroupJSON, parameters=[IN_FORCE_ON])
    def partial_update(self, request: Request, slug: str) -> Response:
        """Edit a group; what is absent stays.

        A stricter policy that existing keys do not keep to needs `existing_keys`; without it 409 `policy_breaks_keys`,
        with their `count` and the first `ids`, and nothing is changed.
        """
        group, changed = self.get_object(), self.body(GroupChanges)
        choice = changed.pop("existing_keys", None)
        group = groups.edit_group(
            actor=request_actor(request), group_id=group.pk, changed=changed, existing_keys=choice
        )
        self.change = group.narrowing
        return Response({**self.get_serializer(group).data, **aligned_json(group, choice)})

    @extend_schema(request=GroupRules, responses=ImpactJSON)
    @action(detail=True, methods=["post"], url_path="policy-preview")
    def policy_preview(self, request: Request, slug: str) -> Response:
        """Say which existing keys an edit of the group would break, and in what; nothing is changed."""
        group, changed = self.get_object(), self.body(GroupRules)
        found = groups.preview_group(actor=request_actor(request), group_id=group.pk, changed=changed)
        return Response(as_json(found))


def _require_match(key: GatewayKey, expected: str) -> None:
    """Return if `If-Match` names the key as it is. A compressing proxy makes our tag weak; it is the same tag."""
    if expected.strip() != "*" and etag_of(key) not in _ENTITY_TAG.findall(expected):
        detail = "The key was changed meanwhile. Read it again, and decide anew."
        raise ApiError(HTTPStatus.PRECONDITION_FAILED, "precondition_failed", detail)


def _result_json(key_id: UUID, result: bulk.BulkResult | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": str(key_id), "revoked": False, "status": None, "error": None}
    if result is not None and result.key is not None:
        return {**facts, "revoked": True, "status": KeyStatus.REVOKED.value}
    if result is not None and isinstance(result.error, Forbidden):
        key = result.error.obj
        error = {"code": "permission_denied", "detail": str(result.error)}
        return {**facts, "status": key.status.value if isinstance(key, GatewayKey) else None, "error": error}
    return {**facts, "error": {"code": "not_found", "detail": "There is no such key that you may see."}}

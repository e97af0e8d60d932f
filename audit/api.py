"""The API of the audit log: read, export, verify. Who sees what is decided by the settings' default classes."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

import django_filters
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from audit.actions import AuditAction
from audit.actor import Actor, ActorKind
from audit.bundles import NoEvidence, evidence
from audit.entry_export import ENTRIES, until_now
from audit.exports import export, filters_of
from audit.models import AuditEntry, Checkpoint
from audit.narrowing import search_entries
from audit.parameters import InstantFilter, TextFilter
from audit.sealing import newest_checkpoint
from audit.signing import public_keys
from audit.verification import ProblemCode, verify_for

FACTS: Final = ("before", "after", "detail")


class EntryJSON(serializers.ModelSerializer[AuditEntry]):
    before = serializers.DictField()
    after = serializers.DictField()
    detail = serializers.DictField()

    class Meta:
        model = AuditEntry
        fields = [
            "id",
            "at",
            "action",
            "actor_kind",
            "actor_id",
            "actor_label",
            "credential",
            "ip",
            "object_type",
            "object_id",
            "object_label",
            *FACTS,
        ]
        read_only_fields = fields


class EntryFilters(django_filters.FilterSet):
    action = django_filters.MultipleChoiceFilter(
        choices=AuditAction.choices, help_text="May be said several times: one of them."
    )
    actor = TextFilter("actor_label", help_text="A username, or the name of a job.")
    actor_id = TextFilter("actor_id", help_text="The id of a member.")
    actor_kind = django_filters.ChoiceFilter(choices=[(kind.value, kind.value) for kind in ActorKind])
    object_type = TextFilter("object_type", help_text="`gateway_key`, `consumer_group`, `gateway`, …")
    object_id = TextFilter("object_id")
    at_after = InstantFilter("at", "gte")
    at_before = InstantFilter("at", "lt")

    class Meta:
        model = AuditEntry
        fields: list[str] = []


class NoProof(APIException):
    """There is nothing to prove by, or the log does not fit its own checkpoint."""

    status_code = 409
    default_code = "no_evidence"


class ProblemJSON(serializers.Serializer[Any]):
    code = serializers.ChoiceField([code.value for code in ProblemCode])
    entry_id = serializers.IntegerField(allow_null=True)
    detail = serializers.CharField()


class GapJSON(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()


class VerdictJSON(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    sealed = serializers.IntegerField(help_text="Entries whose place in the tree was checked.")
    pending = serializers.IntegerField(help_text="Entries that the sealer has not reached yet.")
    checkpoints = serializers.IntegerField(help_text="Signed checkpoints that were checked.")
    last_checkpoint_at = serializers.DateTimeField(allow_null=True)
    copies = serializers.IntegerField(help_text="Copies outside the database that were compared; 0: none are here.")
    gaps = GapJSON(many=True)
    problems = ProblemJSON(many=True)


class CheckpointJSON(serializers.ModelSerializer[Checkpoint]):
    note = serializers.CharField(help_text="The signed text (C2SP tlog-checkpoint): keep it where we cannot reach it.")
    public_keys = serializers.SerializerMethodField(help_text="The keys that signatures are believed by here.")

    class Meta:
        model = Checkpoint
        fields = ["number", "size", "at", "note", "public_keys"]
        read_only_fields = fields

    def get_public_keys(self, checkpoint: Checkpoint) -> list[str]:
        return public_keys()


class AuditEntryViewSet(ReadOnlyModelViewSet[AuditEntry]):
    """The audit log, newest first. Nobody writes it through here, and nobody changes it anywhere."""

    queryset = AuditEntry.objects.order_by("-id")
    serializer_class = EntryJSON
    filterset_class = EntryFilters
    http_method_names = ["get", "head"]
    lookup_value_regex = "[0-9]{1,18}"
    ordering_fields = {"id": "pk", "at": "at"}
    search = staticmethod(search_entries)
    # What an operation takes beside the list's parameters (access.filters).
    own_parameters: frozenset[str] = frozenset()
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {"checkpoint": ("no_evidence",), "evidence": ("no_evidence",)}

    @extend_schema(responses=VerdictJSON, filters=False)
    @action(detail=False, pagination_class=None, search=None, ordering_fields=None, filterset_class=None)
    def verify(self, request: Request) -> Response:
        """Prove that the sealed log is what was written, or say which entries are not. Asking is recorded."""
        self.filter_queryset(self.get_queryset())  # The whole log is checked: a parameter is refused.
        return Response(verify_for(_actor(request)).as_json())

    @extend_schema(responses=CheckpointJSON, filters=False)
    @action(detail=False, pagination_class=None, search=None, ordering_fields=None, filterset_class=None)
    def checkpoint(self, request: Request) -> Response:
        """Return the newest signed checkpoint: what a witness outside keeps a copy of."""
        self.filter_queryset(self.get_queryset())  # A parameter is refused.
        newest = newest_checkpoint()
        if newest is None:
            raise NoProof("Nothing is sealed yet: the sealer writes the first checkpoint within seconds.")
        return Response(CheckpointJSON(newest).data)

    @extend_schema(
        responses={(200, "application/x-ndjson"): OpenApiTypes.STR},
        filters=True,
        parameters=[
            OpenApiParameter("since", int, description="A checkpoint's number: the log is proven to go on from it.")
        ],
    )
    def evidence(self, request: Request) -> HttpResponseBase:
        """Download what the list with the same parameters shows as an evidence bundle, which proves itself offline.

        Without a parameter it is the whole log, and nothing can be missing from it.
        """
        given = filters_of(request.query_params)
        since = _since(given.pop("since", None))
        entries = until_now(self.filter_queryset(self.get_queryset()))
        try:
            return evidence(request._request, entries, actor=_actor(request), filters=given, since=since)
        except NoEvidence as error:
            raise NoProof(str(error)) from error

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR}, filters=True)
    def export(self, request: Request) -> HttpResponseBase:
        """Download what the list with the same parameters shows, as CSV."""
        entries = until_now(self.filter_queryset(self.get_queryset()))
        filters = filters_of(request.query_params)
        return export(request._request, ENTRIES, entries, actor=_actor(request), filters=filters)


def _since(text: str | list[str] | None) -> int | None:
    """Return the number of a checkpoint. Errors: ValidationError at `since`."""
    if text is None:
        return None
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 18:
        raise ValidationError({"since": ["This is the number of a checkpoint."]}, code="invalid")
    return int(text)


def _actor(request: Request) -> Actor:
    # Put there by the settings' permission class.
    return cast("Actor", request.actor)  # type: ignore[attr-defined]  # as above

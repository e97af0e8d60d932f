"""The API of many gateway keys at once: revoke, rotate, edit, with a result for each.

Each key is on its own: one that is refused costs the others nothing, and the answer is 200. `all_or_nothing` makes
them one: where any is refused nothing is done, and the answer is 409 `nothing_done` with the reason for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from django.db import models
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller, request_actor
from access.errors import ApiError, item_error
from access.idempotency import SecretResponse, once
from access.refusals import Conflict, Forbidden
from access.schema import IN_FORCE_ON
from access.serializers import FlagField, IdField, StrictSerializer
from access.tagged import TaggedViewSet
from audit import clock
from audit.actor import Actor
from audit.recording import changes, plain
from keys import bulk
from keys.models import GatewayKey
from keys.serializers import KeyChanges, Revocation, Rotation
from keys.snapshots import snapshot
from keys.status import KeyStatus

# Values that one answer may show.
MOST_VALUES: Final = 100
FAILED: Final = "{refused} of {all} keys cannot be changed so; because all or nothing was asked for, none was."


class Outcome(models.TextChoices):
    """What became of one of many keys."""

    DONE = "done"
    REFUSED = "refused"
    # It could have been done, but another one of all was refused, or nothing was to be done yet.
    NOT_DONE = "not_done"


def _ids(most: int) -> serializers.ListField:
    text = f"At most {most:,}. One that is named twice is done once. One that the caller does not see: `not_found`."
    return serializers.ListField(child=IdField(), allow_empty=False, max_length=most, help_text=text)


class Together(StrictSerializer):
    all_or_nothing = FlagField(
        required=False, help_text="Where one is refused, do nothing and answer 409 `nothing_done`. Absent: false."
    )
    dry_run = FlagField(
        required=False,
        help_text="Do nothing, and say of each key what would become of it: `not_done` could be done, with `changes`. "
        "Absent: false.",
    )


class BulkRevocation(Together, Revocation):
    ids = _ids(bulk.MOST_AT_ONCE)


class BulkRotation(Together, Rotation):
    ids = _ids(MOST_VALUES)


class BulkChanges(Together):
    ids = _ids(bulk.MOST_AT_ONCE)
    changes = KeyChanges(help_text="What is absent stays.")

    def validate_changes(self, changes: dict[str, Any]) -> dict[str, Any]:
        if not changes:
            raise serializers.ValidationError("Name what is to change.", code="required")
        return changes


class ErrorJSON(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()
    fields = serializers.DictField()  # type: ignore[assignment]  # as every error calls it


class ChangesJSON(serializers.Serializer[Any]):
    before = serializers.DictField()
    after = serializers.DictField()


class ResultJSON(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    outcome = serializers.ChoiceField(Outcome.choices)
    status = serializers.ChoiceField(KeyStatus.choices, allow_null=True, help_text="Null for a key that is not seen.")
    error = ErrorJSON(allow_null=True)
    changes = ChangesJSON(
        allow_null=True, help_text="With `dry_run`: what would change, named as in the audit log. Else null."
    )


class ResultsJSON(serializers.Serializer[Any]):
    results = ResultJSON(many=True)


class RevokeResultJSON(ResultJSON):
    revoked = serializers.BooleanField(help_text="Whether this key is revoked now: the outcome is `done`.")


class RevokeResultsJSON(serializers.Serializer[Any]):
    results = RevokeResultJSON(many=True)


class RotateResultJSON(ResultJSON):
    version = serializers.IntegerField(allow_null=True)
    value = serializers.CharField(allow_null=True, help_text="`kt_gk_…`. Shown this once.")


class RotateResultsJSON(serializers.Serializer[Any]):
    results = RotateResultJSON(many=True)


class BulkActions(TaggedViewSet[GatewayKey]):
    """What the views of gateway keys do to many of them."""

    @extend_schema(request=BulkRevocation, responses=RevokeResultsJSON, filters=False, parameters=[IN_FORCE_ON])
    @action(detail=False, methods=["post"], url_path="bulk-revoke", pagination_class=None)
    @once
    def bulk_revoke(self, request: Request) -> Response:
        """Revoke many keys, each on its own; the answer says of each what became of it, in the order given."""
        wanted = self.body(BulkRevocation)
        results = self._do_to_many(bulk.Revoke(wanted.get("reason", "")), wanted)
        told = [{**each, "revoked": each["outcome"] == Outcome.DONE} for each in results]
        return self._answer_of({"results": told}, wanted)

    @extend_schema(request=BulkRotation, responses=RotateResultsJSON, filters=False, parameters=[IN_FORCE_ON])
    @action(detail=False, methods=["post"], url_path="bulk-rotate", pagination_class=None)
    @once
    def bulk_rotate(self, request: Request) -> Response:
        """Give many keys a new value each, in this answer alone; the old ones stay accepted for a grace period."""
        wanted = self.body(BulkRotation)
        seconds = wanted.get("grace_seconds")
        step = bulk.Rotate(None if seconds is None else timedelta(seconds=seconds), wanted.get("renew_expiry", True))
        results = self._do_to_many(step, wanted)
        # Values that were made on trial are nobody's.
        issued = {} if wanted.get("dry_run") else {str(key_id): made for key_id, made in step.issued.items()}
        again = [
            {**each, "version": issued[each["id"]].version.number if each["id"] in issued else None} for each in results
        ]
        shown = [{**each, "value": issued[each["id"]].value if each["id"] in issued else None} for each in again]
        if not issued:
            return self._answer_of({"results": shown}, wanted)
        return SecretResponse({"results": shown}, again={"results": again}, status=HTTPStatus.OK)

    @extend_schema(request=BulkChanges, responses=ResultsJSON, filters=False, parameters=[IN_FORCE_ON])
    @action(detail=False, methods=["post"], url_path="bulk-edit", pagination_class=None)
    @once
    def bulk_edit(self, request: Request) -> Response:
        """Give many keys the same other particulars, each on its own; what `changes` does not name stays."""
        wanted = self.body(BulkChanges)
        return self._answer_of({"results": self._do_to_many(bulk.Change(wanted["changes"]), wanted)}, wanted)

    def _do_to_many(self, step: bulk.Step, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Do it, remember where it is in force, and return a result for each. Errors: ApiError `nothing_done`."""
        request = self.request
        actor, ids = request_actor(request), wanted["ids"]
        seen = caller(request).visible(GatewayKey.objects.all())
        if wanted.get("dry_run", False):
            return _told_of_trial(actor, step, ids, seen)
        try:
            together = wanted.get("all_or_nothing", False)
            results = bulk.apply_many(actor=actor, fix=step, key_ids=ids, among=seen, together=together)
        except bulk.NothingDone as nothing:
            raise _nothing_done(nothing.results) from nothing
        bulk.record_refusals(actor, results)
        self.change = next((key.narrowing for result in results if (key := result.key)), None)
        return _told(results)

    def _answer_of(self, data: dict[str, Any], wanted: Mapping[str, Any]) -> Response:
        response = Response(data)
        # What has done nothing is not remembered: the same `Idempotency-Key` is still free for what does it.
        response.changed_nothing = bool(wanted.get("dry_run"))  # type: ignore[attr-defined]  # access/idempotency.py
        return response


def _told_of_trial(
    actor: Actor, step: bulk.Step, ids: Sequence[UUID], seen: QuerySet[GatewayKey]
) -> list[dict[str, Any]]:
    """Return, for each key, what would become of it; nothing is changed, and no refusal recorded."""
    before = {key.pk: snapshot(key) for key in seen.filter(pk__in=ids).select_related("consumer_group", "owner")}
    results = bulk.try_many(actor=actor, fix=step, key_ids=ids, among=seen)
    told = []
    for result, each in zip(results, _told(results), strict=True):
        if result.key is not None:
            old, new = changes(before[result.key_id], _without_value(step, snapshot(result.key)))
            each |= {"outcome": Outcome.NOT_DONE.value, "changes": {"before": plain(old), "after": plain(new)}}
        told.append(each)
    return told


def _without_value(step: bulk.Step, facts: dict[str, Any]) -> dict[str, Any]:
    # The next value will be another one.
    return {**facts, "hint": None} if isinstance(step, bulk.Rotate) else facts


def _nothing_done(results: list[bulk.BulkResult]) -> ApiError:
    refusals = [result.error for result in results if result.error is not None]
    return ApiError(
        HTTPStatus.CONFLICT,
        "nothing_done",
        FAILED.format(refused=len(refusals), all=len(results)),
        refusals=[refusal for refusal in refusals if isinstance(refusal, Forbidden | Conflict)],
        results=[
            {**each, "outcome": Outcome.NOT_DONE.value} if each["error"] is None else each for each in _told(results)
        ],
    )


def _told(results: list[bulk.BulkResult]) -> list[dict[str, Any]]:
    """Return a result for each. The status is the present one: where nothing was done, that of before."""
    seen = [result.key_id for result in results if not isinstance(result.error, GatewayKey.DoesNotExist)]
    now = clock.now()
    statuses: dict[UUID, str] = {key.pk: key.status_at(now).value for key in GatewayKey.objects.filter(pk__in=seen)}
    return [
        {
            "id": str(result.key_id),
            "outcome": (Outcome.DONE if result.error is None else Outcome.REFUSED).value,
            "status": statuses.get(result.key_id),
            "error": None if result.error is None else item_error(result.error),
            "changes": None,
        }
        for result in results
    ]

"""The API of the installation's policy, and what a change of any policy says of the keys that it breaks."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import request_actor
from access.refusals import Conflict, Forbidden
from access.schema import IF_MATCH, IN_FORCE_ON
from access.tagged import TaggedViewSet
from access.viewsets import refuse_parameters
from keys import installation
from keys.bulk import BulkResult
from keys.models import InstallationPolicy, PolicyFields
from keys.policy import POLICY, installation_policy
from keys.policy_impact import as_json
from keys.serializers import GroupJSON, PolicyChanges, PolicyRules


class EffectJSON(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class AffectedJSON(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    consumer_group = serializers.CharField(allow_null=True)
    breaks = EffectJSON(many=True)


class ImpactJSON(serializers.Serializer[Any]):
    """count: how many keys the change would break; kinds: how many in each way; keys: the first hundred of them."""

    count = serializers.IntegerField()
    kinds = serializers.DictField(child=serializers.IntegerField())
    keys = AffectedJSON(many=True)


class AlignedJSON(serializers.Serializer[Any]):
    """What became of one key that was to be brought into line. error: null where it was."""

    id = serializers.UUIDField()
    error = EffectJSON(allow_null=True)


class PolicyJSON(serializers.ModelSerializer[InstallationPolicy]):
    allowed_networks = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = InstallationPolicy
        fields = list(POLICY)
        read_only_fields = fields


class ChangedPolicyJSON(PolicyJSON):
    """aligned: a result for each key that was brought into line; absent where `existing_keys` was."""

    aligned = AlignedJSON(many=True, required=False)

    class Meta(PolicyJSON.Meta):
        fields = [*PolicyJSON.Meta.fields, "aligned"]


class ChangedGroupJSON(GroupJSON):
    """aligned: a result for each key that was brought into line; absent where `existing_keys` was."""

    aligned = AlignedJSON(many=True, required=False)

    class Meta(GroupJSON.Meta):
        fields = [*GroupJSON.Meta.fields, "aligned"]


class PolicyViewSet(TaggedViewSet[InstallationPolicy]):
    """The installation's policy, for every key, in a group or not. A group's own policy can only be stricter."""

    queryset = InstallationPolicy.objects.all()
    serializer_class = PolicyJSON
    filter_backends = []
    pagination_class = None
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {"partial_update": ("policy_breaks_keys",)}

    def tag_of(self, obj: InstallationPolicy) -> str:
        return installation.state_tag(obj)

    def get_object(self) -> InstallationPolicy:
        refuse_parameters(self.request)
        return installation_policy()

    @extend_schema(request=PolicyChanges, responses=ChangedPolicyJSON, parameters=[IF_MATCH, IN_FORCE_ON])
    def partial_update(self, request: Request) -> Response:
        """Edit the installation's policy; what is absent stays.

        One that existing keys do not keep to needs `existing_keys`; without it 409 `policy_breaks_keys`, with their
        `count` and the first `ids`, and nothing is changed.
        """
        changed = self.body(PolicyChanges)
        choice = changed.pop("existing_keys", None)
        policy = installation.edit_policy(
            actor=request_actor(request), changed=changed, existing_keys=choice, expected=self.expected
        )
        self.change = policy.narrowing
        return self.tagged(Response(self.shown_with(policy, aligned_json(policy, choice))), policy)

    @extend_schema(request=PolicyRules, responses=ImpactJSON)
    def policy_preview(self, request: Request) -> Response:
        """Say which existing keys an edit would break, and in what; nothing is changed."""
        changed = self.body(PolicyRules)
        return Response(as_json(installation.preview_policy(actor=request_actor(request), changed=changed)))


def aligned_json(policy: PolicyFields, choice: str | None) -> dict[str, Any]:
    """Return what became of each key that was brought into line; {} where nobody said what should."""
    if choice is None:
        return {}
    return {"aligned": [{"id": str(one.key_id), "error": _error(one)} for one in policy.alignment or ()]}


def _error(result: BulkResult) -> dict[str, str] | None:
    match result.error:
        case None:
            return None
        case Conflict(code=code):
            pass
        case Forbidden():
            code = "permission_denied"
        case ValidationError():
            code = "validation_error"
        case _:
            code = "not_found"
    return {"code": code, "detail": result.why_not}

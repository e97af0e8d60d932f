"""Endpoints and deliveries as the API shows and takes them."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access.serializers import InstantField, NumberField, OneOfField, StrictSerializer, TextField
from audit import clock
from webhooks.endpoints import LONGEST_OVERLAP
from webhooks.happenings import CHOICES, NoticeType
from webhooks.models import Attempt, Delivery, DeliveryState, EndpointSecret, WebhookEndpoint


class SecretJSON(serializers.ModelSerializer[EndpointSecret]):
    class Meta:
        model = EndpointSecret
        fields = ["hint", "created_at", "valid_until"]
        read_only_fields = fields


class EndpointJSON(serializers.ModelSerializer[WebhookEndpoint]):
    owner = serializers.SlugRelatedField("username", read_only=True, allow_null=True)  # type: ignore[var-annotated]
    event_types = serializers.ListField(child=serializers.ChoiceField(CHOICES), help_text="Empty: all.")
    secrets = serializers.SerializerMethodField()

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "name",
            "url",
            "description",
            "event_types",
            "owner",
            "created_at",
            "disabled_at",
            "disabled_reason",
            "delivered_at",
            "failing_since",
            "secrets",
        ]
        read_only_fields = fields

    @extend_schema_field(SecretJSON(many=True))
    def get_secrets(self, endpoint: WebhookEndpoint) -> list[dict[str, Any]]:
        """Those that sign now, the current one first; of each only the hint."""
        now = clock.now()
        return [dict(SecretJSON(secret).data) for secret in endpoint.secrets.all() if secret.signs_at(now)]


class IssuedSecretJSON(EndpointJSON):
    secret = serializers.CharField(help_text="`whsec_…`. Shown this once.")

    class Meta(EndpointJSON.Meta):
        fields = [*EndpointJSON.Meta.fields, "secret"]


class AttemptJSON(serializers.ModelSerializer[Attempt]):
    error = serializers.CharField(help_text="Why it counts as failed; empty: it has arrived.")
    answer = serializers.CharField(help_text="The beginning of what was answered.")

    class Meta:
        model = Attempt
        fields = ["at", "status", "duration_ms", "error", "answer"]
        read_only_fields = fields


class DeliveryJSON(serializers.ModelSerializer[Delivery]):
    webhook_id = serializers.CharField(source="notice_id", help_text="`msg_…`, the same at every attempt.")
    type = serializers.ChoiceField(NoticeType.choices, source="notice.type")
    state = serializers.ChoiceField(DeliveryState.choices)
    occurred_at = serializers.DateTimeField(source="notice.occurred_at")
    payload = serializers.SerializerMethodField()
    attempts = AttemptJSON(many=True)

    class Meta:
        model = Delivery
        fields = [
            "id",
            "webhook_id",
            "type",
            "state",
            "occurred_at",
            "created_at",
            "next_attempt_at",
            "finished_at",
            "note",
            "attempts",
            "payload",
        ]
        read_only_fields = fields

    def get_payload(self, delivery: Delivery) -> dict[str, Any]:
        """What is sent."""
        payload: dict[str, Any] = json.loads(delivery.notice.body)
        return payload


class TypesField(serializers.ListField):
    """Names of types."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"child": OneOfField(CHOICES), "max_length": len(CHOICES), **kwargs})


class EndpointChanges(StrictSerializer):
    """What is absent stays."""

    name = TextField(required=False)
    url = TextField(required=False, help_text="`https://…`, of a public address.")
    description = TextField(required=False)
    event_types = TypesField(required=False, help_text="What it is told of. Empty: all, also what later versions add.")


class NewEndpoint(EndpointChanges):
    name = TextField()
    url = TextField(help_text="`https://…`, of a public address.")


class SecretRotation(StrictSerializer):
    overlap_seconds = NumberField(
        required=False,
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the old secret signs beside the new one. 0: not at all. Absent: a day.",
    )


class Disabling(StrictSerializer):
    reason = TextField(required=False)


class Redelivery(StrictSerializer):
    since = InstantField(required=False, help_text="Of those queued from then on. Absent: all that failed.")


class RedeliveryResult(serializers.Serializer[Any]):
    queued = serializers.IntegerField(help_text="How many are sent again.")

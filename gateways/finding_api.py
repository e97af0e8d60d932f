"""The API's way to ask whose a value is that somebody has found. It goes one way only (gateways/finding.py)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller
from access.serializers import StrictSerializer, TextField
from access.viewsets import ApiViewSet
from audit import clock
from gateways.finding import MOST_TEXT, Finding, Verdict, find
from keys.models import GatewayKey
from keys.status import VersionState


class Suspicion(StrictSerializer):
    value = TextField(
        allow_blank=False,
        max_length=MOST_TEXT,
        write_only=True,
        help_text="A value, its hint, or a line in which one stands. Looked up in memory, by its digest; kept nowhere.",
    )


class FoundVersionJSON(serializers.Serializer[Any]):
    key_id = serializers.UUIDField()
    key_name = serializers.CharField()
    number = serializers.IntegerField()
    hint = serializers.CharField()
    state = serializers.ChoiceField(VersionState.choices)


class FoundJSON(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()


class FindingJSON(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(
        [verdict.value for verdict in Verdict],
        help_text="`unknown`: nobody's, or of what the caller does not see. `bad_checksum`: a typing error in it.",
    )
    by_hint = serializers.BooleanField(help_text="Only a hint was given, which several may share.")
    versions = FoundVersionJSON(many=True)
    access_keys = FoundJSON(many=True)
    gateways = FoundJSON(many=True)


class FindViewSet(ApiViewSet[GatewayKey]):
    """Whose is this value?"""

    queryset = GatewayKey.objects.all()
    serializer_class = FindingJSON

    @extend_schema(request=Suspicion, responses=FindingJSON, operation_id="gateway_keys_find")
    def find(self, request: Request) -> Response:
        """Say whose a value is, of keys and credentials that the caller sees. Changes nothing; is never cached."""
        finding = find(self.body(Suspicion)["value"], caller(request))
        return Response(_json(finding), headers={"Cache-Control": "no-store"})


def _json(finding: Finding) -> dict[str, Any]:
    now = clock.now()
    return {
        "verdict": finding.verdict.value,
        "by_hint": finding.by_hint,
        "versions": [
            {
                "key_id": str(version.key_id),
                "key_name": version.key.name,
                "number": version.number,
                "hint": version.hint,
                "state": version.state_at(now).value,
            }
            for version in finding.versions
        ],
        "access_keys": [{"id": str(found.pk), "name": found.name} for found in finding.access_keys],
        "gateways": [{"id": str(found.pk), "name": found.name} for found in finding.gateways],
    }

"""The API's answer to "Why was I refused?": one denial, by the decision id that every refusal carries."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.actors import caller
from access.viewsets import ApiViewSet, refuse_parameters
from gateways.explaining import CHECKS, RELATED, Explanation, Passed, explain
from usage.api import EventJSON
from usage.models import Outcome, UsageEvent
from usage.reasons import REASONS

RESULTS = {passed: passed.value.replace(" ", "_") for passed in Passed}


class CheckJSON(serializers.Serializer[Any]):
    code = serializers.ChoiceField(
        [reason.value for reason in CHECKS], help_text="The reason of a refusal by this check."
    )
    title = serializers.CharField(help_text="What must hold.")
    result = serializers.ChoiceField(
        list(RESULTS.values()), help_text="`not_asked`: an earlier check had refused the request already."
    )
    detail = serializers.CharField(help_text="What was found; empty where there is nothing to say.")


class NowJSON(serializers.Serializer[Any]):
    allowed = serializers.BooleanField(allow_null=True, help_text="Null: it cannot be told.")
    detail = serializers.CharField()


class DenialJSON(serializers.Serializer[Any]):
    """Why a gateway was told to refuse a request. Texts are for people; what they say may be said better one day."""

    event = EventJSON(help_text="What is kept of the request. `reason` is what the gateway was told.")
    because = serializers.CharField(help_text="The reason in words.")
    stated_group = serializers.CharField(help_text="The group that the gateway named, in words; empty: not kept.")
    checks = CheckJSON(many=True, help_text="In the order in which they are made.")
    remedies = serializers.ListField(
        child=serializers.CharField(), help_text="What would have let it pass, one way each."
    )
    now = NowJSON(help_text="What would be decided now, of the same value at the same gateway.")


class DenialViewSet(ApiViewSet[UsageEvent]):
    """Requests that were refused, explained."""

    queryset = UsageEvent.objects.filter(outcome=Outcome.DENIED).select_related(*RELATED)
    serializer_class = DenialJSON
    lookup_field = "decision_id"
    lookup_value_regex = "[A-Za-z0-9_-]{1,64}"
    filter_backends = []
    pagination_class = None

    @extend_schema(responses=DenialJSON)
    def retrieve(self, request: Request, decision_id: str) -> Response:
        """Explain a refusal by its `X-Keeptrusts-Decision-Id`: what was checked, what would help, what holds now."""
        refuse_parameters(request)
        member = caller(request)
        # Not blank: as the index of decisions has it.
        denials = self.get_queryset().filter(decision_id=decision_id).exclude(decision_id="")
        event = member.visible(denials).order_by("-occurred_at", "-id").first()
        if event is None:
            raise Http404("no such denial")
        return Response(_json(event, explain(event, member)))


def _json(event: UsageEvent, why: Explanation) -> dict[str, Any]:
    return {
        "event": EventJSON(event).data,
        "because": REASONS.get(event.reason, event.reason),
        "stated_group": why.stated,
        "checks": [
            {"code": check.reason.value, "title": check.title, "result": RESULTS[check.passed], "detail": check.detail}
            for check in why.checks
        ],
        "remedies": list(why.remedies),
        "now": {"allowed": why.now.allowed, "detail": why.now.detail},
    }

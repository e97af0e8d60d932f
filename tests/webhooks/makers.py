"""Endpoints and deliveries for tests, made by the real verbs, to addresses where nobody is."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from keys.models import GatewayKey
from tests.factories import TESTS
from webhooks.endpoints import create_endpoint
from webhooks.happenings import NoticeType
from webhooks.models import Delivery, WebhookEndpoint
from webhooks.queueing import announce_key


def make_endpoint(name: str = "audit-trail", **particulars: Any) -> WebhookEndpoint:
    """Make an endpoint at a public address, which nothing in the tests may ask."""
    return create_endpoint(**{"actor": TESTS, "name": name, "url": "https://8.8.8.8/", **particulars}).endpoint


def make_delivery(key: GatewayKey, endpoint: WebhookEndpoint | None = None) -> Delivery:
    """Make a delivery that has arrived, of a notice about `key`."""
    endpoint = endpoint or make_endpoint()
    with transaction.atomic():
        notice = announce_key(NoticeType.KEY_CREATED, key.pk, f"made for a test:{key.pk}")
    delivery = Delivery.objects.get(notice=notice, endpoint=endpoint)
    delivery.state, delivery.next_attempt_at, delivery.finished_at = "delivered", None, delivery.created_at
    delivery.save()
    delivery.attempts.create(at=delivery.created_at, status=204, duration_ms=12)
    return delivery

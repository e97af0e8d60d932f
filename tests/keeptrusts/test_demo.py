"""The demo is an installation as people would have left it: everything adds up, and the audit log proves itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, Q, Sum

from access.models import Member
from audit import clock
from audit.models import AuditEntry
from audit.verification import verify
from gateways.models import Gateway, UsageSource
from keeptrusts.demo import KEYS, seed
from keys.hygiene import CONCERNS, survey
from keys.models import ConsumerGroup, GatewayKey
from keys.status import KeyStatus
from tests.factories import PASSWORD, make_member
from usage.models import KeyMetrics, Outcome, UsageBucket, UsageEvent
from webhooks.models import Delivery, DeliveryState, WebhookEndpoint

pytestmark = pytest.mark.django_db


def test_the_demo_is_what_the_readme_promises(capsys: pytest.CaptureFixture[str]) -> None:
    make_member("admin", username="admin", password=PASSWORD)
    passwords = seed(print)
    assert (ConsumerGroup.objects.count(), Gateway.objects.count(), GatewayKey.objects.count()) == (6, 3, 60)
    assert len(KEYS) == 60
    assert {status for status in KeyStatus if GatewayKey.objects.in_status(status).exists()} == set(KeyStatus)
    assert GatewayKey.objects.expiring_within(7).exists()
    assert GatewayKey.objects.unused_for(30).exists()
    assert GatewayKey.objects.filter(metrics__last_used_at__isnull=True).exists()
    surveyed = survey(GatewayKey.objects.all(), clock.now(), list(CONCERNS.values()))
    assert [found.concern.slug for found in surveyed if not found.count] == []
    _has_a_month_of_usage_with_a_rhythm()
    _adds_up()
    _never_sends_anything()
    verdict = verify()
    assert (verdict.valid, verdict.pending) == (True, 0)
    assert verdict.sealed == AuditEntry.objects.count() > 200
    assert AuditEntry.objects.filter(action="gateway_key.revoke_refused", actor_label="dana.okafor").exists()
    _, *times = AuditEntry.objects.order_by("id").values_list("at", flat=True)  # the Admin was there first
    assert times == sorted(times), "it was written as it happened"
    assert all(Member.objects.get(username=name).check_password(password) for name, password in passwords.items())
    assert not any(password in capsys.readouterr().out for password in passwords.values())
    with pytest.raises(CommandError, match="already"):
        call_command("seed_demo")


def _has_a_month_of_usage_with_a_rhythm() -> None:
    now = clock.now()
    per_day = {
        day: UsageBucket.objects.filter(
            start__gt=now - timedelta(days=day + 1), start__lte=now - timedelta(days=day)
        ).aggregate(requests=Sum("requests"), denials=Sum("denials"))
        for day in range(29)
    }
    assert all(figures["requests"] and figures["denials"] for figures in per_day.values())
    hours = UsageBucket.objects.filter(start__gt=now - timedelta(days=28)).values_list("start__hour")
    by_hour = dict(hours.annotate(requests=Sum("requests")))
    assert sum(by_hour[hour] for hour in (13, 14, 15, 16)) > 2 * sum(by_hour[hour] for hour in (1, 2, 3, 4))
    assert UsageEvent.objects.filter(status__gte=400).exists()
    denied = UsageEvent.objects.filter(outcome=Outcome.DENIED)
    assert {"key_revoked", "group_mismatch", "network_not_allowed"} <= set(denied.values_list("reason", flat=True))


def _adds_up() -> None:
    """Sums, events and each key's figures tell the same numbers."""
    reporting = Q(gateway__usage_source=UsageSource.REPORT)
    events = UsageEvent.objects.filter(reporting, outcome=Outcome.SERVED).aggregate(
        requests=Count("id"), errors=Count("id", filter=Q(status__gte=400)), tokens=Sum("output_tokens")
    )
    buckets = UsageBucket.objects.filter(reporting).aggregate(
        requests=Sum("requests"), client=Sum("status_4xx"), server=Sum("status_5xx"), tokens=Sum("output_tokens")
    )
    assert events["requests"] == buckets["requests"] > 10_000
    assert events["errors"] == buckets["client"] + buckets["server"]
    assert events["tokens"] == buckets["tokens"]
    total = UsageBucket.objects.aggregate(total=Sum("requests"))["total"]
    assert KeyMetrics.objects.aggregate(total=Sum("total_requests"))["total"] == total


def test_the_demo_goes_only_into_an_empty_installation_with_an_admin() -> None:
    with pytest.raises(CommandError, match="no Admin"):
        call_command("seed_demo")
    assert not Member.objects.exists()


def _never_sends_anything() -> None:
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.disabled_at is not None
    assert not Delivery.objects.filter(state=DeliveryState.PENDING).exists()
    assert set(Delivery.objects.values_list("state", flat=True)) == {DeliveryState.DELIVERED, DeliveryState.FAILED}

"""A load is an installation as the verbs would have left it: every status, and sums that are those of the events."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from audit.models import AuditEntry
from audit.sealing import seal
from audit.verification import verify
from keeptrusts.load_data import Size, load
from keys.models import GatewayKey
from keys.status import KeyStatus
from usage.models import KeyMetrics, Outcome, UsageBucket, UsageEvent, VersionMetrics
from usage.recounting import first_day, recount

pytestmark = pytest.mark.django_db

KEYS, EVENTS = 400, 3_000


@pytest.fixture(autouse=True)
def loaded() -> None:
    load(lambda line: None, Size(keys=KEYS, events=EVENTS, groups=12))


def test_a_load_is_as_large_as_it_was_told_and_has_keys_in_every_status() -> None:
    assert (GatewayKey.objects.count(), UsageEvent.objects.count()) == (KEYS, EVENTS)
    assert {status for status in KeyStatus if GatewayKey.objects.in_status(status).exists()} == set(KeyStatus)
    assert GatewayKey.objects.filter(metrics__last_used_at__isnull=True).exists()
    assert GatewayKey.objects.unused_for(30).exists()
    assert GatewayKey.objects.unscoped().exists()


def test_the_sums_of_a_load_are_those_of_its_events() -> None:
    first = UsageEvent.objects.order_by("occurred_at").first()
    assert first is not None
    served = UsageEvent.objects.filter(outcome=Outcome.SERVED)
    day = first.occurred_at.replace(hour=0, minute=0, second=0, microsecond=0)
    recent = UsageBucket.objects.filter(start__gte=day).aggregate(
        requests=Sum("requests"), denials=Sum("denials"), tokens=Sum("input_tokens"), errors=Sum("status_5xx")
    )
    assert recent == {
        "requests": served.count(),
        "denials": EVENTS - served.count(),
        "tokens": served.aggregate(tokens=Sum("input_tokens"))["tokens"],
        "errors": served.filter(status__gte=500).count(),
    }
    (of_buckets,) = UsageBucket.objects.aggregate(n=Sum("requests")).values()
    for model in (KeyMetrics, VersionMetrics):
        assert model.objects.aggregate(n=Sum("total_requests")) == {"n": of_buckets}


def test_recounting_a_load_finds_nothing_to_mend() -> None:
    before = list(UsageBucket.objects.order_by("pk").values())
    recount(first_day())
    assert list(UsageBucket.objects.order_by("pk").values()) == before
    assert not AuditEntry.objects.filter(action="usage.recounted").exists()


def test_the_audit_log_of_a_load_proves_itself() -> None:
    seal()
    verdict = verify()
    assert (verdict.valid, verdict.pending, verdict.sealed) == (True, 0, AuditEntry.objects.count())
    assert AuditEntry.objects.filter(object_type="gateway_key").count() > KEYS


def test_a_load_goes_into_a_filled_installation_only_when_told() -> None:
    with pytest.raises(CommandError, match="already"):
        call_command("seed_load", keys=10, events=10)
    call_command("seed_load", keys=10, events=10, groups=12, add=True)
    assert (GatewayKey.objects.count(), UsageEvent.objects.count()) == (KEYS + 10, EVENTS + 10)

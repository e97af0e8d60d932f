"""`POST /gateway/v1/usage` on a running data plane: durable, once, and one bad event never costs the others."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from django.db import connection

from access import tokens
from access.tokens import TokenKind
from gateways.models import UsageSource
from keys import lifecycle
from keys.issuing import IssuedKey
from tests.factories import TESTS, make_gateway, make_group, make_key
from tests.plane import USAGE, Plane, question
from usage.events import INCOMING
from usage.ingest import ingest
from usage.models import KeyMetrics, UsageBucket, UsageEvent, VersionMetrics

NOW = datetime.now(UTC)


def make_reporter(name: str | None = None) -> str:
    return make_gateway(name, usage_source=UsageSource.REPORT).value


def event(issued: IssuedKey, id_: str, *, age: timedelta = timedelta(minutes=1), **facts: Any) -> dict[str, Any]:
    occurred_at = (NOW - age).isoformat()
    return {
        "id": id_,
        "occurred_at": occurred_at,
        "key_id": str(issued.key.id),
        "key_version": issued.version.number,
        **facts,
    }


def test_accepted_events_are_counted_with_all_that_they_say(plane: Plane) -> None:
    issued = make_key(consumer_group=make_group("payments"))
    facts: dict[str, Any] = {"status": 200, "latency_ms": 40, "model": "gpt-4o", "input_tokens": 10, "output_tokens": 3}
    events = [
        event(issued, "a", **facts, cost=0.0123, method="POST", path="/v1", provider="openai", operation="chat"),
        event(issued, "b", **{**facts, "status": 429, "latency_ms": 60_000}, client_ip="192.0.2.1"),
        event(issued, "c", model="gpt-4o"),
    ]
    answer = plane.report(make_reporter(), events)
    assert (answer.status, answer.json) == (200, {"accepted": 3, "duplicates": 0, "rejected": []})
    bucket = UsageBucket.objects.get()
    assert bucket.consumer_group is not None
    assert (bucket.consumer_group.slug, bucket.model, bucket.requests) == ("payments", "gpt-4o", 3)
    assert (bucket.status_2xx, bucket.status_4xx, bucket.latency_le_50, bucket.latency_above) == (1, 1, 1, 1)
    assert (bucket.input_tokens, bucket.output_tokens, bucket.denials) == (20, 6, 0)
    metrics = KeyMetrics.objects.get()
    assert (metrics.total_requests, metrics.total_reported, metrics.total_errors) == (3, 2, 1)
    assert metrics.error_rate == 0.5
    assert VersionMetrics.objects.get().total_requests == 3
    stored = UsageEvent.objects.get(event_id="a")
    assert (stored.outcome, stored.status, str(stored.cost), stored.path) == ("served", 200, "0.012300000", "/v1")


def test_ndjson(plane: Plane) -> None:
    issued, token = make_key(), make_reporter()
    lines = [orjson.dumps(event(issued, "a")), b"{broken", b"", orjson.dumps(event(issued, "b"))]
    headers = [(b"content-type", b"application/x-ndjson; charset=utf-8"), *question(token)]
    answer = plane.ask("POST", USAGE, headers=headers, body=b"\n".join(lines))
    assert (answer.status, answer.json["accepted"]) == (200, 2)
    assert [(bad["index"], bad["code"]) for bad in answer.json["rejected"]] == [(1, "invalid_json")]


def test_one_bad_event_never_costs_the_others(plane: Plane) -> None:
    issued, other = make_key(), make_key()
    events = [
        event(issued, "a"),
        {"id": "b"},
        event(issued, "c", age=timedelta(days=31)),
        event(issued, "d", age=-timedelta(hours=1)),
        event(issued, "e", key_version=2),
        event(issued, "f", key_id=str(uuid.uuid4())),
        event(issued, "g", model="\x00"),
        "nonsense",
        event(issued, "h", unheard_of=1),
        event(other, "i", status=0),
        event(other, "j"),
    ]
    answer = plane.report(make_reporter(), events)
    assert (answer.status, answer.json["accepted"], answer.json["duplicates"]) == (200, 2, 0)
    assert [(bad["index"], bad["code"]) for bad in answer.json["rejected"]] == [
        (1, "required"),
        (2, "too_old"),
        (3, "in_the_future"),
        (4, "unknown_version"),
        (5, "unknown_key"),
        (6, "nul_character"),
        (7, "not_an_object"),
        (8, "unknown_field"),
        (9, "out_of_range"),
    ]
    assert all(bad["detail"] for bad in answer.json["rejected"])


def test_the_version_must_be_one_of_the_key(plane: Plane) -> None:
    rotated, plain = make_key(), make_key()
    lifecycle.rotate(actor=TESTS, key_id=rotated.key.id)
    answer = plane.report(make_reporter(), [event(rotated, "a", key_version=2), event(plain, "b", key_version=2)])
    assert (answer.json["accepted"], answer.json["rejected"][0]["code"]) == (1, "unknown_version")
    assert VersionMetrics.objects.get().version.number == 2


def test_the_same_event_twice_counts_once(plane: Plane) -> None:
    issued, token = make_key(), make_reporter()
    again = [event(issued, "a"), event(issued, "a"), event(issued, "b")]
    assert plane.report(token, again).json == {"accepted": 2, "duplicates": 1, "rejected": []}
    assert plane.report(token, [*again, event(issued, "c")]).json == {"accepted": 1, "duplicates": 3, "rejected": []}
    assert UsageBucket.objects.get().requests == KeyMetrics.objects.get().total_requests == 3
    # Another time or another gateway make another event.
    later = event(issued, "a", age=timedelta(minutes=30))
    assert plane.report(token, [later]).json["accepted"] == 1
    assert plane.report(make_reporter(), [later]).json["accepted"] == 1
    assert KeyMetrics.objects.get().total_requests == 5


def test_the_same_instant_in_another_zone_is_the_same_event(plane: Plane) -> None:
    issued = make_key()
    here = event(issued, "a", occurred_at=NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
    there = {**here, "occurred_at": (NOW + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.000+02:00")}
    assert plane.report(make_reporter(), [here, there]).json == {"accepted": 1, "duplicates": 1, "rejected": []}


def test_late_events_count_when_they_occurred(plane: Plane) -> None:
    issued = make_key()
    late = timedelta(days=29)
    plane.report(make_reporter(), [event(issued, "now"), event(issued, "late", age=late)])
    starts = list(UsageBucket.objects.order_by("start").values_list("start", flat=True))
    assert starts[0] <= NOW - late < starts[0] + timedelta(minutes=5)
    assert len(starts) == 2
    assert KeyMetrics.objects.get().last_used_at == NOW - timedelta(minutes=1)


def test_a_clock_that_runs_ahead_does_not_make_a_key_used_later_than_now(plane: Plane) -> None:
    issued, ahead = make_key(), (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    plane.report(make_reporter(), [event(issued, "a", occurred_at=ahead)])
    last_used_at = KeyMetrics.objects.get().last_used_at
    assert last_used_at is not None
    assert last_used_at <= datetime.now(UTC)


def test_requests_that_were_served_count_though_the_key_is_revoked_since(plane: Plane) -> None:
    issued = make_key()
    lifecycle.revoke(actor=TESTS, key_id=issued.key.id)
    assert plane.report(make_reporter(), [event(issued, "a")]).json["accepted"] == 1


def test_a_whole_batch_at_its_limit(plane: Plane) -> None:
    keys, token = [make_key() for _ in range(3)], make_reporter()
    events = [event(keys[number % 3], str(number), model=f"m{number % 7}") for number in range(10_000)]
    assert plane.report(token, events).json == {"accepted": 10_000, "duplicates": 0, "rejected": []}
    assert plane.report(token, events[:100]).json == {"accepted": 0, "duplicates": 100, "rejected": []}
    assert sum(KeyMetrics.objects.values_list("total_requests", flat=True)) == 10_000
    assert UsageBucket.objects.count() == 21


def test_refusals(plane: Plane) -> None:
    reporter, counted = make_reporter(), make_gateway().value
    unknown = tokens.generate(TokenKind.GATEWAY_TOKEN)
    for token in (None, unknown):
        answer = plane.report(token, [])
        assert (answer.status, answer.reason, answer.json["code"]) == (403, "gateway_unknown", "gateway_unknown")
    assert (answer := plane.report(counted, [])).status == 409
    assert answer.json["code"] == "counted_at_authorize"
    assert plane.report(reporter, [1] * 10_001).status == 413
    for body, status, code in [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b" " * (5 * 1024 * 1024 + 1), 413, "body_too_large"),
    ]:
        answer = plane.ask("POST", USAGE, headers=question(reporter), body=body)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.headers["cache-control"] == "no-store"
    declared = [*question(reporter), (b"content-length", b"5242881")]
    assert plane.ask("POST", USAGE, headers=declared, body=b"{}").status == 413
    packed = [*question(reporter), (b"content-encoding", b"gzip")]
    assert plane.ask("POST", USAGE, headers=packed, body=b"{}").status == 415
    assert not UsageEvent.objects.exists()


def test_nothing_at_all_is_no_error(plane: Plane) -> None:
    assert plane.report(make_reporter(), []).json == {"accepted": 0, "duplicates": 0, "rejected": []}


def test_senders_that_replay_the_same_at_once_neither_deadlock_nor_count_twice(plane: Plane) -> None:
    keys, token = [make_key() for _ in range(4)], make_reporter()
    events = [event(keys[number % 4], str(number), model=f"m{number % 5}") for number in range(1_500)]
    orders = [events, events[::-1], events[700:] + events[:700], events[::2] + events[1::2]] * 2
    bodies = [orjson.dumps({"events": some}) for some in orders]

    async def send_all() -> list[Any]:
        asked = (plane.asking("POST", USAGE, headers=question(token), body=body) for body in bodies)
        return await asyncio.gather(*asked)

    answers = plane.run(send_all())
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.json["accepted"] for answer in answers) == 1_500
    assert sum(answer.json["duplicates"] for answer in answers) == 7 * 1_500
    assert sum(KeyMetrics.objects.values_list("total_requests", flat=True)) == 1_500
    assert sum(UsageBucket.objects.values_list("requests", flat=True)) == 1_500


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_what_it_is_copied_through_never_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a connection that lives for months would hold up the freezing of transaction ids (wraparound)."""
    monkeypatch.setattr("usage.events.TRUNCATED_EVERY", 1)
    issued, gateway = make_key(), make_gateway(usage_source=UsageSource.REPORT).gateway
    frozen = []
    for number in range(3):
        assert ingest(gateway_id=gateway.id, events=[event(issued, str(number))]).accepted == 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT relfrozenxid::text FROM pg_class WHERE oid = %s::regclass", [INCOMING])
            frozen.append(int(cursor.fetchone()[0]))
    assert frozen[0] < frozen[1] < frozen[2]


def test_no_value_reaches_the_database(plane: Plane) -> None:
    issued = make_key()
    for field in ("path", "model", "operation", "provider"):
        leaky = {**event(issued, field), field: issued.value}
        assert plane.report(make_reporter(), [leaky]).json["accepted"] == 1
    assert issued.value not in repr(list(UsageEvent.objects.values()))
    assert issued.value not in repr(list(UsageBucket.objects.values()))

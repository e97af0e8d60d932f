"""Usage events in the console: read, filtered, found; written by nobody."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count as counter
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from audit import clock
from gateways.models import Gateway
from keys.issuing import IssuedKey
from tests.factories import make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import column, main_of
from usage.models import Outcome, UsageEvent

EVENTS = "/admin/usage/usageevent/"

_numbers = counter(1)


def make_event(gateway: Gateway, issued: IssuedKey | None = None, **facts: Any) -> UsageEvent:
    """Write an event; of a key, one that was served, unless a reason is given."""
    now = clock.now()
    outcome = Outcome.DENIED if facts.get("reason") else Outcome.SERVED
    event = {"event_id": f"event-{next(_numbers)}", "occurred_at": now, "received_at": now, "outcome": outcome, **facts}
    if issued is not None:
        event |= {"key": issued.key, "version": issued.version, "consumer_group": issued.key.consumer_group}
    return UsageEvent.objects.create(gateway=gateway, **event)


@pytest.fixture
def gateway(db: None) -> Gateway:
    return make_gateway("edge").gateway


def test_a_row_says_what_happened(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    issued = make_key("billing")
    make_event(gateway, issued, status=503, latency_ms=1234, method="POST", path="/v1/chat")
    response = browser(auditor).get(EVENTS)
    assert column(response, "outcome_label") == ["Served"]
    assert column(response, "key_text") == [f"billing {issued.version.hint}"]
    assert column(response, "request_text") == ["POST /v1/chat"]
    assert column(response, "status_label") == ["503"]
    assert column(response, "latency") == ["1,234 ms"]


def test_a_denial_says_why_in_words(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    event = make_event(gateway, reason="key_unknown")
    client = browser(auditor)
    assert column(client.get(EVENTS), "key_text") == ["Unknown key"]
    assert "Unknown key (key_unknown)" in main_of(client.get(f"{EVENTS}{event.pk}/change/"))


def test_status_that_nobody_reported_is_not_reported(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    make_event(gateway, make_key())
    assert column(browser(auditor).get(EVENTS), "status_label") == ["not reported"]


def test_no_digest_is_ever_shown(browser: BrowserOf, admin: Member, gateway: Gateway) -> None:
    issued = make_key()
    event = make_event(gateway, issued)
    client = browser(admin)
    page = client.get(f"{EVENTS}{event.pk}/change/").content.decode() + client.get(EVENTS).content.decode()
    assert issued.version.hint in page
    assert issued.value not in page
    assert bytes(issued.version.digest).hex() not in page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"outcome__exact": "denied"}, ["c"]),
        ({"reason": "key_revoked"}, ["c"]),
        ({"status_class": "2"}, ["a"]),
        ({"status_class": "5"}, ["b"]),
        ({"status_class": "errors"}, ["b"]),
        ({"status_class": "none"}, ["d"]),
        ({"status_class": "9"}, []),
        ({}, ["d", "c", "b", "a"]),
    ],
)
def test_filters_find_their_own(
    browser: BrowserOf, auditor: Member, gateway: Gateway, query: dict[str, str], expected: list[str]
) -> None:
    now = clock.now()
    facts: dict[str, dict[str, Any]] = {
        "a": {"status": 200},
        "b": {"status": 500},
        "c": {"reason": "key_revoked"},
        "d": {},
    }
    for number, (name, fact) in enumerate(facts.items()):
        make_event(gateway, make_key(name), occurred_at=now + timedelta(seconds=number), **fact)
    rows = column(browser(auditor).get(EVENTS, query), "key_text")
    assert [row.split()[0] for row in rows] == expected


def test_the_time_range_takes_whole_days_in_utc(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    for name, at in (
        ("before", "2026-03-01T23:59:59.999+00:00"),
        ("first", "2026-03-02T00:00:00+00:00"),
        ("last", "2026-03-03T23:59:59.999+00:00"),
        ("after", "2026-03-04T00:00:00+00:00"),
    ):
        make_event(gateway, make_key(name), occurred_at=datetime.fromisoformat(at))
    query = {"occurred_at_from": "2026-03-02", "occurred_at_to": "2026-03-03"}
    rows = column(browser(auditor).get(EVENTS, query), "key_text")
    assert [row.split()[0] for row in rows] == ["last", "first"]
    nonsense = browser(auditor).get(EVENTS, {"occurred_at_from": "2026-02-31", "occurred_at_to": "x"})
    assert len(column(nonsense, "key_text")) == 4


def test_search_finds_by_decision_key_and_hint(browser: BrowserOf, auditor: Member, gateway: Gateway) -> None:
    wanted, other = make_key("billing"), make_key("other")
    make_event(gateway, wanted, decision_id="a" * 32)
    make_event(gateway, other, decision_id="b" * 32)
    client = browser(auditor)
    for term in ("a" * 32, "billing", "BILL", str(wanted.key.pk), wanted.version.hint, wanted.value):
        assert [row.split()[0] for row in column(client.get(EVENTS, {"q": term}), "key_text")] == ["billing"], term
    assert column(client.get(EVENTS, {"q": "nothing of this"}), "key_text") == []


def test_a_manager_sees_the_events_of_their_keys_only(browser: BrowserOf, manager: Member, gateway: Gateway) -> None:
    theirs = make_group(managers=[manager])
    others = make_group(managers=[make_member("manager")])
    make_event(gateway, make_key("mine", consumer_group=theirs))
    hidden = make_event(gateway, make_key("hidden", consumer_group=others))
    make_event(gateway, reason="key_unknown")
    client = browser(manager)
    assert [row.split()[0] for row in column(client.get(EVENTS), "key_text")] == ["mine"]
    assert client.get(f"{EVENTS}{hidden.pk}/change/").status_code == 404
    assert column(client.get(EVENTS, {"q": "hidden"}), "key_text") == []


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
def test_nobody_writes_events(browser: BrowserOf, gateway: Gateway, role: str) -> None:
    event = make_event(gateway, make_key())
    client = browser(make_member(role))
    assert client.get(f"{EVENTS}add/").status_code == 403
    assert client.post(f"{EVENTS}add/", {}).status_code == 403
    assert client.post(f"{EVENTS}{event.pk}/change/", {"status": "200"}).status_code == 403
    event.refresh_from_db()
    assert event.status is None


@pytest.mark.parametrize("role", ["admin", "manager", "auditor"])
@pytest.mark.parametrize("count", [3, 25])
def test_the_list_asks_the_database_the_same_number_of_times(
    browser: BrowserOf, gateway: Gateway, django_assert_num_queries: DjangoAssertNumQueries, role: str, count: int
) -> None:
    for _ in range(count):
        make_event(gateway, make_key(consumer_group=make_group()))
    client = browser(make_member(role))
    # session, member, gateways to filter by, rows: nothing is counted
    with django_assert_num_queries(4):
        client.get(EVENTS)

"""The access review and the rotation compliance report: right about every key, for who may see it, and recorded."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest
import time_machine
from django.db.models import QuerySet
from pytest_django import DjangoAssertNumQueries

from access.models import Member
from access.rules import Role
from audit.csv_rows import csv_blocks, written
from audit.exports import Export
from audit.models import AuditEntry
from keys import access_review as review
from keys import lifecycle
from keys import rotation_compliance as rotation
from keys.models import ConsumerGroup
from tests.factories import TESTS, make_access_key, make_group, make_key, make_member
from tests.fixtures import ApiOf, BrowserOf
from tests.pages import main_of
from usage.models import KeyMetrics

pytestmark = pytest.mark.django_db
REVIEW = "/api/v1/reports/access-review/"
COMPLIANCE = "/api/v1/reports/rotation-compliance/"
PAGES = "/admin/reports/"
NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
def plant(manager: Member) -> dict[str, Any]:
    """Keys of a group of the Manager's, of a foreign group, and of none, made on 1 January; now it is June."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False):
        mine = make_group("mine", name="Mine", managers=[manager, make_member(Role.MANAGER, username="zoe")])
        foreign = make_group("foreign", name="Foreign", managers=[make_member(Role.MANAGER)])
        leaver = make_member(Role.MANAGER, username="leaver")
        old = make_key("old", consumer_group=mine, owner=leaver).key
        fresh = make_key("fresh", consumer_group=mine, expires_at=datetime(2027, 1, 1, tzinfo=UTC)).key
        make_key("hidden", consumer_group=foreign)
        wide = make_key("wide").key
        gone = make_key("gone", consumer_group=mine).key
        lifecycle.revoke(actor=TESTS, key_id=gone.pk)
        Member.objects.filter(pk=leaver.pk).update(is_active=False)
    with time_machine.travel(datetime(2026, 6, 14, 13, tzinfo=UTC), tick=False):
        lifecycle.rotate(actor=TESTS, key_id=fresh.pk)
    KeyMetrics.objects.update_or_create(key=old, defaults={"last_used_at": datetime(2026, 6, 1, tzinfo=UTC)})
    ConsumerGroup.objects.filter(pk=mine.pk).update(expiry_required=True)
    return {"mine": mine, "foreign": foreign, "old": old, "fresh": fresh, "wide": wide, "leaver": leaver}


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.content
    return list(csv.DictReader(answer.getvalue().decode().splitlines()))


@time_machine.travel(NOW, tick=False)
def test_the_review_says_of_every_key_what_a_reviewer_asks(api: ApiOf, auditor: Member, plant: dict[str, Any]) -> None:
    found = {row["name"]: row for row in rows(api(auditor).get(f"{REVIEW}export.csv"))}
    assert sorted(found) == ["fresh", "hidden", "old", "wide"]
    old, fresh, wide = found["old"], found["fresh"], found["wide"]
    assert (old["consumer_group"], old["managers"]) == ("mine", "max.manager zoe")
    assert (old["owner"], old["owner_active"], old["created_by"]) == ("leaver", "false", "system")
    assert (old["age_days"], old["value_age_days"], old["last_rotated_at"]) == ("165", "165", "")
    assert old["last_used_at"] == "2026-06-01T00:00:00.000000Z"
    assert old["policy_breaches"] == "expiry_missing"
    assert (fresh["version"], fresh["versions_in_grace"], fresh["status"]) == ("2", "1", "rotating")
    assert (fresh["last_rotated_at"], fresh["value_age_days"]) == ("2026-06-14T13:00:00.000000Z", "0")
    assert (fresh["policy_breaches"], fresh["expires_at"][:4]) == ("", "2027")
    assert (wide["consumer_group"], wide["managers"]) == ("", "")


@time_machine.travel(NOW, tick=False)
def test_the_review_counts_and_names_the_team(api: ApiOf, auditor: Member, plant: dict[str, Any]) -> None:
    make_access_key(auditor, name="ci")
    client = api(auditor)
    told = client.get(REVIEW).json()
    assert told["totals"] == {
        **{"keys": 4, "disabled": 0, "unscoped": 1, "no_expiry": 3, "never_used": 3, "owner_left": 4, "in_breach": 1}
    }
    assert {kind: count for kind, count in told["breaches"].items() if count} == {"expiry_missing": 1}
    assert [(g["consumer_group"], g["keys"], g["in_breach"]) for g in told["groups"]] == [
        (None, 1, 0),
        ("foreign", 1, 0),
        ("mine", 2, 1),
    ]
    assert [key["name"] for key in told["keys"]] == ["old", "fresh", "hidden", "wide"]
    assert told["keys"][0]["age_days"] == 165
    mine = [row for row in told["members"] if row["access_key"] == "ci"]
    assert [(row["role"], row["access_key"], row["active"]) for row in mine] == [("auditor", "ci", "true")]
    assert {"leaver"} == {row["username"] for row in told["members"] if row["active"] == "false"}
    team = rows(client.get(f"{REVIEW}team.csv"))
    assert len(team) == len(told["members"])
    entries = AuditEntry.objects.filter(action="report.produced").order_by("id")
    assert [(e.object_id, e.object_label, e.detail) for e in entries] == [
        ("access-review", "Access review", {"filter": {}, "rows": 4, "form": "json"}),
        ("access-review", "Access review: team", {"filter": {}, "rows": len(team)}),
    ]


@time_machine.travel(NOW, tick=False)
def test_a_manager_gets_their_groups_and_no_team(api: ApiOf, manager: Member, plant: dict[str, Any]) -> None:
    client = api(manager)
    told = client.get(REVIEW).json()
    assert (told["totals"]["keys"], told["members"]) == (3, None)
    assert sorted(row["name"] for row in rows(client.get(f"{REVIEW}export.csv"))) == ["fresh", "old", "wide"]
    assert [row["name"] for row in rows(client.get(f"{REVIEW}export.csv", {"consumer_group": "mine"}))] == [
        "fresh",
        "old",
    ]
    assert list(client.get(REVIEW, {"consumer_group": "foreign"}).json()["fields"]) == ["consumer_group"]
    assert client.get(f"{REVIEW}team.csv").status_code == 403
    assert client.get(COMPLIANCE).json()["total"] == 3


@time_machine.travel(NOW, tick=False)
def test_a_value_is_overdue_by_its_policy_or_the_days_asked_for(
    api: ApiOf, auditor: Member, plant: dict[str, Any]
) -> None:
    told = api(auditor).get(COMPLIANCE).json()
    assert (told["days"], told["total"], told["overdue"], told["compliant"]) == (90, 4, 3, 25.0)
    assert [(g["consumer_group"], g["overdue"], g["compliant"]) for g in told["groups"]] == [
        (None, 1, 0.0),
        ("foreign", 1, 0.0),
        ("mine", 1, 50.0),
    ]
    assert {key["name"] for key in told["keys"]} == {"old", "hidden", "wide"}
    assert api(auditor).get(COMPLIANCE, {"days": 165}).json()["overdue"] == 3
    assert api(auditor).get(COMPLIANCE, {"days": 166}).json()["overdue"] == 0
    ConsumerGroup.objects.filter(slug="foreign").update(max_lifetime_days=400)
    found = {row["name"]: row for row in rows(api(auditor).get(f"{COMPLIANCE}export.csv"))}
    assert (found["hidden"]["allowed_days"], found["hidden"]["overdue"]) == ("400", "false")
    assert (found["old"]["allowed_days"], found["old"]["overdue"]) == ("90", "true")
    assert (found["fresh"]["overdue"], found["fresh"]["value_age_days"]) == ("false", "0")


@time_machine.travel(NOW, tick=False)
def test_rotations_are_counted_by_month_over_a_year(api: ApiOf, auditor: Member, plant: dict[str, Any]) -> None:
    with time_machine.travel(datetime(2026, 5, 31, 23, 59, tzinfo=UTC), tick=False):
        lifecycle.rotate(actor=TESTS, key_id=plant["old"].pk)
    months = api(auditor).get(COMPLIANCE).json()["months"]
    assert len(months) == 12
    assert (months[0]["start"][:7], months[-1]["start"][:7]) == ("2025-07", "2026-06")
    assert [month["rotations"] for month in months[-3:]] == [0, 1, 1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("days=0", "days"),
        ("days=x", "days"),
        ("days=1&days=2", "days"),
        ("colour=red", "colour"),
        ("consumer_group=%00", "consumer_group"),
    ],
)
def test_a_parameter_that_means_nothing_is_400(api: ApiOf, auditor: Member, query: str, field: str) -> None:
    for path in (COMPLIANCE, f"{COMPLIANCE}export.csv"):
        assert list(api(auditor).get(f"{path}?{query}").json()["fields"]) == [field]


@time_machine.travel(NOW, tick=False)
def test_every_database_gives_the_same_bytes_of_the_reports(auditor: Member, plant: dict[str, Any]) -> None:
    make_access_key(auditor, name="=ci")
    limits = rotation.Limits.load(90)
    sets: tuple[tuple[QuerySet[Any], Export], ...] = (
        (review.reviewed(auditor, NOW).order_by("name"), review.key_export(NOW)),
        (review.team(NOW), review.team_export(NOW)),
        (rotation.rotated(auditor, NOW).order_by("name"), rotation.key_export(NOW, limits)),
    )
    for found, what in sets:
        blocks = [block for block, _ in csv_blocks(found, what.columns, seconds=60)]
        ours = written(found.values_list(*(column.expression for column in what.columns)), what.columns)
        assert b"".join(blocks[1:]) == b"".join(chain(block for block, _ in ours))
        assert len(blocks) > 1


def test_the_pages_name_installation_moment_and_who_asked_and_are_recorded(
    browser: BrowserOf, auditor: Member, manager: Member, plant: dict[str, Any]
) -> None:
    client = browser(auditor)
    page = client.get(f"{PAGES}access-review/", {"consumer_group": "mine"})
    text = main_of(page)
    for words in (
        "http://127.0.0.1",
        "UTC",
        "amy.auditor",
        "Mine",
        "Never expires: 1",
        "Signature",
        "Team, and access keys",
    ):
        assert words in text
    assert "no-store" in page["Cache-Control"]
    assert "/api/v1/reports/access-review/export.csv?consumer_group=mine" in page.content.decode()
    assert "hidden" not in text
    page = client.get(f"{PAGES}rotation-compliance/", {"days": "30"})
    assert "30 days old, unless a policy says otherwise" in main_of(page)
    entry = AuditEntry.objects.filter(action="report.produced").order_by("-id")[0]
    assert (entry.object_id, entry.detail["filter"], entry.detail["form"]) == (
        "rotation-compliance",
        {"days": "30"},
        "page",
    )
    text = main_of(browser(manager).get(f"{PAGES}access-review/"))
    assert "Team, and access keys" not in text
    assert "hidden" not in text


def test_a_page_for_nonsense_leads_back_and_says_why(browser: BrowserOf, auditor: Member) -> None:
    response = browser(auditor).get(f"{PAGES}rotation-compliance/", {"days": "soon"}, follow=True)
    assert "days: A whole number of days" in main_of(response)
    assert not AuditEntry.objects.filter(action="report.produced").exists()


def test_a_report_takes_the_same_queries_however_many_keys(
    api: ApiOf, auditor: Member, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = api(auditor)
    for count in (2, 20):
        for _ in range(count):
            make_key(consumer_group=make_group())
        with django_assert_max_num_queries(16):
            assert client.get(REVIEW).status_code == 200
        with django_assert_max_num_queries(14):
            assert client.get(COMPLIANCE).status_code == 200

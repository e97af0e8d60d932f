"""Lists by cursor: while rows are added and changed, none that was there is missed or shown twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from access.models import AccessKey, Member
from access.throttles import AccessKeyThrottle
from audit import clock
from keeptrusts.api import router
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member
from tests.usage.test_api_usage import make_event
from tests.webhooks.makers import make_endpoint
from usage.models import KeyMetrics

pytestmark = pytest.mark.django_db
# What is a list of one object's own has no address without it.
LISTS: Final = {prefix: view for prefix, view, _ in router.registry if hasattr(view, "list") and "(" not in prefix}
ORDERINGS: Final = [
    (prefix, f"{sign}{name}")
    for prefix, view in LISTS.items()
    for name in getattr(view, "ordering_fields", None) or {}
    for sign in ("", "-")
] + [(prefix, "") for prefix in LISTS]
KEYS: Final = "/api/v1/gateway-keys/"


def add_one_of_each(admin: Member, number: int) -> None:
    """Add a row to every list; where a column may be empty some are, and each has a neighbour like it."""
    some = clock.now() + timedelta(days=5 + number // 2)
    group = make_group(f"group-{9 - number % 10}-{number}")
    key = make_key(f"same-{number // 2}", consumer_group=group, expires_at=some if number % 3 else None)
    if number % 3 == 1:
        used = clock.now() - timedelta(hours=number // 2)
        KeyMetrics.objects.update_or_create(key=key.key, defaults={"last_used_at": used, "requests_24h": number // 2})
    make_event(
        make_gateway(f"gateway-{9 - number % 10}-{number}").gateway,
        key,
        number,
        status=200 + number // 2 if number % 3 else None,
        latency_ms=number // 2 if number % 3 else None,
    )
    make_member("auditor", name=f"Same {number // 2}")
    make_endpoint(f"endpoint-{9 - number % 10}-{number}")
    access_key = make_access_key(admin, name=f"same-{number // 2}").access_key
    if number % 3 == 1:
        AccessKey.objects.filter(pk=access_key.pk).update(last_used_at=clock.now() - timedelta(hours=number // 2))


@pytest.fixture
def client(admin: Member, admin_api: APIClient, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(AccessKeyThrottle, "THROTTLE_RATES", {"access_key": None})
    for number in range(8):
        add_one_of_each(admin, number)
    return admin_api


def pages(client: APIClient, url: str, step: str = "next", between: Callable[[], None] = lambda: None) -> Iterator[Any]:
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.content
        yield answer.json()["results"]
        between()
        url = answer.json()[step]


def first(prefix: str, ordering: str, size: int = 3) -> str:
    order = {"ordering": ordering} if ordering else {}
    return f"/api/v1/{prefix}/?{urlencode({'cursor': '', 'page_size': size, **order})}"


def ids(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize(("prefix", "ordering"), ORDERINGS)
def test_cursors_show_what_pages_by_number_do_in_either_direction(
    client: APIClient, prefix: str, ordering: str
) -> None:
    by_number = client.get(first(prefix, ordering, 500).replace("cursor=&", "")).json()
    there = list(pages(client, first(prefix, ordering)))
    assert [one for page in there for one in ids(page)] == ids(by_number["results"])
    assert by_number["count"] == sum(map(len, there)) >= 8
    # And back from the last page, which the answer before it names.
    url = first(prefix, ordering)
    while (following := client.get(url).json()["next"]) is not None:
        url = following
    back = list(pages(client, url, "previous"))
    assert [ids(page) for page in reversed(back)] == [ids(page) for page in there]


@pytest.mark.parametrize(("prefix", "ordering"), ORDERINGS)
def test_no_row_is_missed_or_doubled_while_others_are_added(
    client: APIClient, admin: Member, prefix: str, ordering: str
) -> None:
    before = ids(client.get(first(prefix, "", 500).replace("cursor=&", "")).json()["results"])
    numbers = iter(range(100, 200))
    seen = []
    for page in pages(client, first(prefix, ordering), between=lambda: add_one_of_each(admin, next(numbers))):
        seen += ids(page)
        if len(seen) > len(before) * 4:
            break  # In some orderings what is added comes last, and there is no end of it.
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)


@pytest.mark.parametrize("ordering", ["created_at", "-created_at", ""])
def test_by_what_never_changes_no_row_is_missed_while_all_are_changed(client: APIClient, ordering: str) -> None:
    before = ids(client.get(KEYS, {"page_size": 500}).json()["results"])
    seen, names = [], iter(range(1_000))

    def change_everything() -> None:
        for key in before:
            assert client.patch(f"{KEYS}{key}/", {"name": f"z{next(names)}-{key}"[:40]}).status_code == 200

    for page in pages(client, first("gateway-keys", ordering), between=change_everything):
        seen += ids(page)
    assert sorted(seen) == sorted(before)


def test_going_back_from_beyond_the_end_finds_where_one_stood(client: APIClient) -> None:
    url = first("access-keys", "name", 500)
    everything = client.get(url).json()
    assert (everything["count"], everything["next"], everything["previous"]) == (None, None, None)
    middle = client.get(first("access-keys", "name", 4)).json()
    AccessKey.objects.exclude(pk__in=ids(middle["results"])).update(name="a")
    empty = client.get(middle["next"]).json()
    assert (empty["results"], empty["next"]) == ([], None)
    assert ids(client.get(empty["previous"]).json()["results"]) == ids(middle["results"])


def test_filters_hold_on_every_page(client: APIClient) -> None:
    url = first("gateway-keys", "-last_used_at", 2) + "&search=same-1"
    assert [key["name"] for page in pages(client, url) for key in page] == ["same-1", "same-1"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda cursor: cursor[:-1] + ("a" if cursor[-1] != "a" else "b"), "no cursor"),
        (lambda cursor: "x" + cursor, "no cursor"),
        (lambda cursor: "0", "no cursor"),
        (lambda cursor: "\0é" * 10, "no cursor"),
        (lambda cursor: ":" * 3_000, "no cursor"),
    ],
)
def test_a_cursor_that_was_not_made_here_is_400_by_its_name(
    client: APIClient, spoil: Callable[[str], str], said: str
) -> None:
    following = client.get(first("gateway-keys", "name")).json()["next"]
    cursor = parse_qs(urlsplit(following).query)["cursor"][0]
    answer = client.get(KEYS, {"cursor": spoil(cursor), "ordering": "name"})
    assert answer.status_code == 400
    (error,) = answer.json()["fields"]["cursor"]
    assert error["code"] == "invalid_cursor"
    assert said in error["detail"]


def test_a_cursor_is_of_one_list_and_one_ordering(client: APIClient) -> None:
    following = client.get(first("gateway-keys", "name")).json()["next"]
    cursor = parse_qs(urlsplit(following).query)["cursor"][0]
    for path, ordering, words in (
        (KEYS, "-name", "another ordering"),
        ("/api/v1/consumer-groups/", "name", "another list"),
    ):
        answer = client.get(path, {"cursor": cursor, "ordering": ordering})
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["cursor"])
        assert words in answer.json()["detail"]


def test_one_says_page_or_cursor(client: APIClient) -> None:
    answer = client.get(KEYS, {"cursor": "", "page": "2"})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["page"])


def test_a_page_by_cursor_is_one_query_and_counts_nothing(client: APIClient) -> None:
    following = client.get(first("audit-entries", "-at")).json()["next"]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(client.get(following).json()["results"]) == 3
    asked = [query["sql"] for query in queries if "audit_auditentry" in query["sql"]]
    assert len(asked) == 1
    assert "COUNT(" not in asked[0]
    assert "OFFSET" not in asked[0]

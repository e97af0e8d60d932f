"""An export is in the audit log before its first byte, and how it ended after its last; few run at once."""

from __future__ import annotations

import asyncio
import csv
import gc
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError
from rest_framework.test import APIClient

from access.models import Member
from audit import clock, export_slots, exports
from audit.csv_rows import Block
from audit.models import AuditEntry
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf
from usage.models import UsageBucket

ENTRIES = "/api/v1/audit-entries/export.csv"
KEYS = "/api/v1/gateway-keys/export.csv"
DAYS = "/api/v1/usage-days/export.csv"


def ended() -> list[tuple[str, Any]]:
    """Return what the log says of the ends of exports."""
    found = AuditEntry.objects.filter(action__startswith="audit.export_").order_by("id")
    return [(entry.action, entry.detail) for entry in found]


@pytest.mark.django_db
def test_the_end_says_what_was_sent(auditor_api: APIClient) -> None:
    make_key("a")
    answer: Any = auditor_api.get(KEYS)
    begun = AuditEntry.objects.get(action="gateway_key.exported")
    assert begun.detail == {"filter": {}, "rows": 1}
    assert ended() == []
    content = answer.getvalue()
    told = {"export": begun.pk, "rows": 1, "bytes": len(content)}
    assert ended() == [("audit.export_finished", told)]


@pytest.mark.django_db
def test_what_breaks_off_says_how_far_it_came(auditor_api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[Block] = [(b"id\r\n", 0), (b"1\r\n2\r\n", 2)]

    def broken(*_: Any, **__: Any) -> Any:
        yield from blocks
        raise DatabaseError("gone")

    monkeypatch.setattr(exports, "csv_blocks", broken)
    answer: Any = auditor_api.get(KEYS)
    with pytest.raises(DatabaseError):
        answer.getvalue()
    ((action, told),) = ended()
    assert (action, told["rows"], told["bytes"]) == ("audit.export_broken_off", 2, 10)


@pytest.mark.django_db
def test_without_its_entry_nothing_is_sent(auditor_api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise DatabaseError("the log cannot be written")

    monkeypatch.setattr(exports, "record", away)
    with pytest.raises(DatabaseError):
        auditor_api.get(KEYS)
    monkeypatch.undo()
    # And it does not count among those that run.
    running = [auditor_api.get(KEYS) for _ in range(2)]
    assert [answer.status_code for answer in running] == [200, 200]


@pytest.mark.django_db
def test_to_ask_for_the_header_takes_nothing(auditor_api: APIClient) -> None:
    answer = auditor_api.head(KEYS)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert not AuditEntry.objects.filter(action="gateway_key.exported").exists()


@pytest.mark.django_db
def test_a_member_has_two_exports_at_once_and_a_server_so_many_as_it_is_set(
    api: ApiOf, admin: Member, auditor: Member, manager: Member, settings: Any
) -> None:
    settings.KEEPTRUSTS_EXPORTS_AT_ONCE = 3
    first: Any = api(admin).get(KEYS)
    second = api(admin).get(KEYS)
    refused = api(admin).get(KEYS)
    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, "too_many_exports", "10")
    third = api(auditor).get(KEYS)
    assert (second.status_code, third.status_code) == (200, 200)
    refused = api(manager).get(KEYS)
    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (503, "exports_busy", "10")
    assert AuditEntry.objects.filter(action="gateway_key.exported").count() == 3
    first.getvalue()
    assert api(manager).get(KEYS).status_code == 200


@pytest.mark.django_db
def test_an_export_that_nobody_ever_read_does_not_count_for_ever(api: ApiOf, admin: Member) -> None:
    running = [api(admin).get(KEYS) for _ in range(2)]
    assert api(admin).get(KEYS).status_code == 429
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit.export_slots.time.monotonic", lambda: 10**9)
        assert api(admin).get(KEYS).status_code == 200
    running.clear()
    gc.collect()


@pytest.mark.django_db
def test_days_are_summed_in_utc_and_a_manager_gets_their_own(api: ApiOf, manager: Member, auditor: Member) -> None:
    mine = make_group("mine", managers=[manager])
    own, hidden = (
        make_key("own", consumer_group=mine),
        make_key("hidden", consumer_group=make_group("foreign", managers=[make_member("manager")])),
    )
    gateway = make_gateway("edge").gateway
    day = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for issued, hour in ((own, 0), (own, 23), (hidden, 12)):
        UsageBucket.objects.create(
            start=day.replace(hour=hour),
            version=issued.version,
            gateway=gateway,
            requests=5,
            status_2xx=3,
            status_5xx=1,
            denials=2,
        )
    rows = list(csv.DictReader(api(manager).get(DAYS).getvalue().decode().splitlines()))
    assert [
        (row["day"], row["key_name"], row["requests"], row["reported"], row["errors"], row["denials"]) for row in rows
    ] == [(f"{day:%Y-%m-%d}", "own", "10", "8", "2", "4")]
    assert len(api(auditor).get(DAYS).getvalue().decode().splitlines()) == 3
    assert (
        len(
            api(auditor)
            .get(DAYS, {"key": str(own.key.pk), "day_to": f"{day:%Y-%m-%d}"})
            .getvalue()
            .decode()
            .splitlines()
        )
        == 2
    )
    assert len(api(auditor).get(DAYS, {"day_to": "2020-01-01"}).getvalue().decode().splitlines()) == 1
    assert list(api(auditor).get(DAYS, {"day_from": "yesterday"}).json()["fields"]) == ["day_from"]
    entry = AuditEntry.objects.filter(action="usage.exported").order_by("id").first()
    assert entry is not None
    assert (entry.object_type, entry.detail["rows"]) == ("usage_day", 1)


@pytest.mark.django_db(transaction=True)
def test_a_client_that_hangs_up_leaves_an_entry_and_a_free_place(
    auditor: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_access_key(auditor)
    monkeypatch.setattr("audit.csv_rows.BLOCK", 200)
    monkeypatch.setattr("audit.csv_rows.ROWS_AT_ONCE", 2)
    for _ in range(30):
        make_key()

    async def hang_up() -> None:
        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {key.value}".encode())]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": ENTRIES,
        }
        scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
        client: Any = _communicator(_stalling(ASGIHandler()), scope)
        await client.send_input({"type": "http.request", "body": b"", "more_body": False})
        assert (await client.receive_output(10))["status"] == 200
        assert (await client.receive_output(10))["body"].startswith(b"id,at,")
        await client.send_input({"type": "http.disconnect"})
        await client.wait(10)

    async_to_sync(hang_up)()
    ((action, told),) = ended()
    assert action == "audit.export_broken_off"
    assert 0 < told["bytes"] < 2_000

    assert not export_slots._running


_communicator: Any = ApplicationCommunicator


def _stalling(application: Any) -> Any:
    """Let the client take the header and the first rows, and nothing more."""

    async def stalled(scope: Any, receive: Any, send: Any) -> None:
        parts = 0

        async def slow_send(message: Any) -> None:
            nonlocal parts
            parts += message["type"] == "http.response.body"
            await send(message)
            if parts >= 2:
                await asyncio.sleep(60)

        await application(scope, receive, slow_send)

    return stalled

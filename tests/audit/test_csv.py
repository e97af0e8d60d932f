"""CSV of rows: the same bytes from every database, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import CharField, Func, QuerySet, Value

from access.models import Member
from audit import clock
from audit.csv_cells import FORMULA_STARTS, disarm
from audit.csv_rows import BLOCK, csv_blocks, written
from audit.entry_export import ENTRIES
from audit.exports import Export
from audit.models import AuditEntry
from keys import lifecycle
from keys.csv_export import key_export
from keys.models import GatewayKey
from tests.factories import TESTS, actor_of, make_gateway, make_group, make_key
from tests.usage.test_console import make_event
from usage.csv_export import DAYS, EVENTS, per_day
from usage.models import KeyMetrics, UsageBucket, UsageEvent

pytestmark = pytest.mark.django_db
NASTY = (
    *(f"{start}1+1" for start in FORMULA_STARTS),
    *('say "hi", twice', "two\r\nlines", "lone \r return", "\\.", "\\N", " space ", "ends in \\", "kt_", "a;b", "é…𝄞"),
    *("%s %(x)s {0}", "kt_gk_" + "a" * 32, "=kt_gk_" + "b" * 40, "'=quoted", "-5", "\u2028"),
    "whsec_" + "c" * 43 + "=",
)


def whole(rows: QuerySet[Any], what: Export) -> bytes:
    return b"".join(block for block, _ in csv_blocks(rows, what.columns, seconds=60))


def by_hand(rows: QuerySet[Any], what: Export) -> bytes:
    """Return the same as written by this process, whatever the database."""
    selected = rows.values_list(*(column.expression for column in what.columns))
    header = ",".join(what.names).encode() + b"\r\n"
    return header + b"".join(block for block, _ in written(selected, what.columns))


def read(file: bytes) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(file.decode(), newline=""))


def entries() -> QuerySet[AuditEntry]:
    return AuditEntry.objects.order_by("id")


def make_entry(label: str, **facts: Any) -> AuditEntry:
    """Write an entry as no verb would: nothing is struck out of it."""
    given = {"at": clock.now(), "action": "audit.verified", "actor_kind": "system", "actor_label": label, **facts}
    return AuditEntry.objects.create(object_type="audit_entry", object_label=label, credential=label, **given)


@pytest.fixture
def nasty() -> None:
    for text in NASTY:
        make_entry(text, detail={"long name": text, "b": {"z": [1, None, True, text], "y": "", "ä": {}}, "aa": 10**20})
    make_entry("", ip=None, detail={})
    make_entry("v6", ip="2001:db8::1", at=datetime(1999, 12, 31, 23, 59, 59, 5, UTC))


def test_every_database_gives_the_same_bytes_of_the_audit_log(nasty: None) -> None:
    found = whole(entries(), ENTRIES)
    assert found == by_hand(entries(), ENTRIES)
    assert len(list(read(found))) == entries().count() + 1


def test_every_database_gives_the_same_bytes_of_keys_events_and_days(admin: Member) -> None:
    group, gateway = make_group("payments"), make_gateway("+edge").gateway
    for number, text in enumerate(text for text in NASTY if "kt_gk_" not in text):
        made = make_key(consumer_group=group if number % 2 else None)
        GatewayKey.objects.filter(pk=made.key.pk).update(name=text, description=text)
        make_event(gateway, made, path=text, model="=m", cost=Decimal("0.000123"), latency_ms=None)
        rates = {"total_requests": 9, "total_reported": 9, "total_errors": number}
        KeyMetrics.objects.update_or_create(key=made.key, defaults={**rates, "last_used_at": clock.now()})
        start = datetime(2026, 1, 1 + number % 3, 23, 55, tzinfo=UTC)
        UsageBucket.objects.create(
            start=start, version=made.version, gateway=gateway, consumer_group=group, model=text[:9], requests=number
        )
    scoped = make_key("b", allowed_networks=["10.0.0.0/8", "::/0"], owner=admin).key
    lifecycle.revoke(actor=actor_of(admin), key_id=scoped.pk, reason="=leaked")
    lifecycle.disable(actor=TESTS, key_id=make_key("c").key.pk)
    keys = GatewayKey.objects.with_metrics().order_by("name", "id")
    events = UsageEvent.objects.order_by("id")
    days = per_day(UsageBucket.objects.all())
    sets: tuple[tuple[QuerySet[Any], Export], ...] = ((keys, key_export(clock.now())), (events, EVENTS), (days, DAYS))
    for rows, what in sets:
        found = whole(rows, what)
        assert found.count(b"\r\n") > 5
        assert found == by_hand(rows, what)


def test_no_cell_begins_as_a_formula_and_none_holds_a_secret(nasty: None) -> None:
    found = whole(entries(), ENTRIES)
    cells = list(chain.from_iterable(read(found)))
    assert not [cell for cell in cells if cell.startswith(FORMULA_STARTS)]
    assert "'=1+1" in cells
    assert "'kt_gk_bbbb…" not in cells
    assert b"a" * 32 not in found
    assert b"b" * 32 not in found
    assert b"c" * 32 not in found


def test_lines_end_as_rfc_4180_says_and_there_is_no_byte_order_mark(nasty: None) -> None:
    found = whole(entries(), ENTRIES)
    assert found.startswith(b"id,at,action,")
    assert found.endswith(b"\r\n")
    # What is left are the line breaks that stand in quotes.
    assert found.replace(b"\r\n", b"").count(b"\n") == found.decode().count("\n1+1")


def test_a_file_is_made_of_blocks_and_each_says_its_rows() -> None:
    make_entry("x" * 200)
    first = entries().first()
    assert first is not None
    columns = {f.attname: getattr(first, f.attname) for f in AuditEntry._meta.fields if f.attname != "id"}
    AuditEntry.objects.bulk_create(AuditEntry(**columns) for _ in range(3_000))
    blocks = list(csv_blocks(entries(), ENTRIES.columns, seconds=60))
    assert sum(rows for _, rows in blocks) == entries().count()
    assert len(blocks) > 3
    assert all(BLOCK <= len(block) < 2 * BLOCK for block, _ in blocks[1:-1])


def test_nothing_found_is_a_header_alone() -> None:
    assert whole(AuditEntry.objects.none(), ENTRIES) == b",".join(n.encode() for n in ENTRIES.names) + b"\r\n"
    assert whole(entries().filter(object_label="nothing"), ENTRIES).count(b"\r\n") == 1


def test_times_are_utc_and_numbers_untouched() -> None:
    at = datetime(2026, 3, 1, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert disarm(at) == "2026-02-28T23:02:03.000000Z"
    assert [disarm(cell) for cell in (-5, -1.5, Decimal("-0.10"), True, None)] == ["-5", "-1.5", "-0.10", "true", ""]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite reads in this process, in the reader's time")
def test_a_database_that_takes_too_long_is_stopped(nasty: None) -> None:
    nap = Func(Value(0.5), function="pg_sleep", output_field=CharField())
    blocks = csv_blocks(entries().annotate(nap=nap).filter(nap__isnull=False), ENTRIES.columns, seconds=1)
    assert next(blocks)[1] == 0
    with pytest.raises(OperationalError), transaction.atomic():
        list(blocks)

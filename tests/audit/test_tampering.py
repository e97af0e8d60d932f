"""A thousand random ways to touch a sealed log, each found; a thousand untouched logs, and no false alarm."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings
from django.db import connection, transaction

from audit.models import AuditEntry
from audit.sealing import seal
from audit.verification import verify
from tests.audit.test_log import execute, tampering, write
from tests.audit.test_signed_checkpoints import copied

pytestmark = pytest.mark.django_db
# What a person would write there; never what is there.
FORGED: Final = {
    "audit_auditentry": {
        "actor_label": "'nobody'",
        "action": "'audit.exported'",
        "object_id": "'other'",
        "object_label": "'other'",
        "after": '\'{"name": "other"}\'',
        "at": "'2020-01-01 00:00:00+00:00'",
        "ip": "'10.9.8.7'",
    },
    "audit_checkpoint": {"size": "size + 1", "at": "'2020-01-01 00:00:00+00:00'", "note": "note || 'x'"},
}


def count(table: str, column: str = "*") -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count({column}) FROM {table}")
        (rows,) = cursor.fetchone()
    return int(rows)


def some_entry() -> int:
    return random.choice(list(AuditEntry.objects.values_list("pk", flat=True)))


def some_checkpoint(first: int = 1) -> int:
    return random.randint(first, count("audit_checkpoint"))


def edit() -> str:
    table = random.choice(list(FORGED))
    column, value = random.choice(list(FORGED[table].items()))
    where = f"number = {some_checkpoint()}" if table == "audit_checkpoint" else f"id = {some_entry()}"
    execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
    return f"{table}.{column} where {where}"


def edit_with_leaf() -> str:
    entry = AuditEntry.objects.get(pk=some_entry())
    entry.actor_label = "nobody"
    AuditEntry.objects.filter(pk=entry.pk).update(actor_label="nobody")
    leaf = entry.leaf_hash().hex()
    value = f"'\\x{leaf}'" if connection.vendor == "postgresql" else f"x'{leaf}'"
    execute(f"UPDATE audit_auditleaf SET hash = {value} WHERE entry_id = {entry.pk}")
    return f"entry {entry.pk} with its leaf"


def delete() -> str:
    pk, with_leaf = some_entry(), random.random() < 0.5
    execute("DELETE FROM audit_auditentry WHERE id = %s", pk)
    if with_leaf:
        execute("DELETE FROM audit_auditleaf WHERE entry_id = %s", pk)
    return f"entry {pk}, with its leaf: {with_leaf}"


def delete_checkpoint() -> str:
    number = random.randint(1, count("audit_checkpoint") - 1)
    execute("DELETE FROM audit_checkpoint WHERE number = %s", number)
    return f"checkpoint {number}"


def insert() -> str:
    entry = AuditEntry.objects.get(pk=some_entry())
    entry.pk = entry.pk + random.choice([1_000, 100_000])
    entry.save(force_insert=True)
    execute("DELETE FROM audit_unsealedentry WHERE entry_id = %s", entry.pk)
    return f"entry {entry.pk}"


def swap() -> str:
    one, other = random.sample(list(AuditEntry.objects.values_list("pk", flat=True)), 2)
    table, column = random.choice([("audit_auditentry", "id"), ("audit_auditleaf", "entry_id")])
    for source, target in ((one, -1), (other, one), (-1, other)):
        execute(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", target, source)
    return f"{table}: {one} and {other}"


def cut_tail() -> str:
    last = random.randint(1, count("audit_checkpoint") - 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT size FROM audit_checkpoint WHERE number = %s", [last])
        (size,) = cursor.fetchone()
    execute("DELETE FROM audit_checkpoint WHERE number > %s", last)
    execute('DELETE FROM audit_auditleaf WHERE "index" >= %s', size)
    execute("DELETE FROM audit_auditentry WHERE id NOT IN (SELECT entry_id FROM audit_auditleaf)")
    return f"after checkpoint {last}"


def replay() -> str:
    """Put an older checkpoint in a newer one's place; with what it does not cover left, or taken away."""
    newest = count("audit_checkpoint")
    older = random.randint(1, newest - 1)
    columns = ("size", "root", "peaks", "at", "note")
    sets = ", ".join(f"{c} = (SELECT {c} FROM audit_checkpoint WHERE number = {older})" for c in columns)
    execute(f"UPDATE audit_checkpoint SET {sets} WHERE number = {newest}")
    return f"checkpoint {older} as {newest}"


WAYS: Final[list[Callable[[], str]]] = [edit, edit_with_leaf, delete, delete_checkpoint, insert, swap, cut_tail, replay]


class Undone(Exception):
    """Raised to undo what was done to the log."""


def tamper(times: int) -> tuple[int, list[str]]:
    """Do so many things to a sealed log, each undone before the next; return how many, and which were not found."""
    missed = []
    for number in range(times):
        way = WAYS[number % len(WAYS)]
        try:
            with tampering(), transaction.atomic():
                done = f"{way.__name__}: {way()}"
                if verify().valid:
                    missed.append(done)
                raise Undone
        except Undone:
            continue
    return times, missed


def logs(times: int) -> tuple[int, list[Any]]:
    """Let as many logs grow, each a little, at random; return how many, and what was wrong with them."""
    alarms = []
    for _ in range(times):
        write(random.randint(0, 3))
        if random.random() < 0.7:
            seal()
        alarms += verify().problems
    return times, alarms


def test_every_way_to_touch_a_sealed_log_is_found() -> None:
    copied(12, Path(settings.KEEPTRUSTS_CHECKPOINT_FILE))
    assert tamper(8 * 5) == (40, [])
    assert verify().valid, "all of it was undone"


def test_an_untouched_log_raises_no_alarm_as_it_grows() -> None:
    assert logs(40) == (40, [])

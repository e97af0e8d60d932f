"""The log is append-only in the database itself, and verification names what was done to a sealed one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils.module_loading import import_string

from audit.actions import AuditAction
from audit.models import AuditEntry, AuditLeaf, Checkpoint, UnsealedEntry
from audit.recording import Subject, plain, record
from audit.sealing import seal
from audit.signals import entry_recorded
from audit.verification import ProblemCode, Verdict, verify
from tests.factories import TESTS

pytestmark = pytest.mark.django_db


def write(count: int = 1) -> list[AuditEntry]:
    with transaction.atomic():
        return [
            record(
                AuditAction.KEY_CREATED,
                TESTS,
                Subject("gateway_key", f"id-{number}", "k"),
                after={"name": f"é “{number}”", "span": timedelta(hours=1), "list": [1, None, True]},
            )
            for number in range(count)
        ]


def sealed(count: int, *, batches: int = 3) -> list[AuditEntry]:
    entries = []
    for _ in range(batches):
        entries += write(count // batches)
        seal()
    return entries


@contextmanager
def tampering() -> Iterator[None]:
    """What a superuser of the database can do: act with the triggers out of the way."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
            try:
                yield
            finally:
                cursor.execute("SET session_replication_role = origin")
            return
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'")
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        try:
            yield
        finally:
            for _, sql in triggers:
                cursor.execute(sql)


def execute(sql: str, *parameters: str | int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def found() -> set[tuple[ProblemCode, int | None]]:
    return {(problem.code, problem.entry_id) for problem in verify().problems}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditentry SET actor_label = 'nobody'",
        "UPDATE audit_auditleaf SET entry_id = entry_id + 100",
        "UPDATE audit_checkpoint SET size = size + 100",
        "DELETE FROM audit_auditentry",
        "DELETE FROM audit_auditleaf",
        "DELETE FROM audit_checkpoint",
    ],
)
def test_the_database_refuses_to_change_or_delete(statement: str) -> None:
    sealed(3)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        execute(statement)
    assert verify().valid


@pytest.mark.postgresql
@pytest.mark.parametrize("table", ["audit_auditentry", "audit_auditleaf", "audit_checkpoint"])
def test_postgresql_refuses_to_truncate(table: str) -> None:
    sealed(3)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        execute(f"TRUNCATE {table} CASCADE")


@pytest.mark.sqlite
@pytest.mark.parametrize("table", ["audit_auditentry", "audit_auditleaf", "audit_checkpoint"])
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE INTO", "REPLACE INTO", "INSERT OR IGNORE INTO"])
def test_sqlite_refuses_to_insert_over_a_row(table: str, verb: str) -> None:
    sealed(3)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        execute(f"{verb} {table} SELECT * FROM {table}")


def test_an_entry_is_written_only_inside_a_transaction(transactional_db: None) -> None:
    with pytest.raises(transaction.TransactionManagementError):
        record(AuditAction.KEY_CREATED, TESTS, Subject("gateway_key"))


def test_whoever_listens_can_undo_the_change() -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("cannot queue the notice")

    entry_recorded.connect(refuse)
    try:
        with pytest.raises(RuntimeError):
            write()
    finally:
        entry_recorded.disconnect(refuse)
    assert not AuditEntry.objects.exists()


def test_every_entry_is_sealed_once_and_the_log_verifies() -> None:
    sealed(9)
    verdict = verify()
    assert (verdict.valid, verdict.sealed, verdict.pending, verdict.problems) == (True, 9, 0, [])
    assert seal() == 0
    assert Checkpoint.objects.count() == 3


def test_entries_not_sealed_yet_are_counted_as_pending() -> None:
    sealed(3)
    write(2)
    verdict = verify()
    assert (verdict.valid, verdict.sealed, verdict.pending) == (True, 3, 2)


def test_an_untouched_log_of_many_batches_raises_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.sealing.BATCH", 7)
    monkeypatch.setattr("audit.verification.CHUNK", 5)
    write(40)
    assert seal() == 40
    verdict = verify()
    assert (verdict.valid, verdict.sealed, verdict.pending, verdict.checkpoints) == (True, 40, 0, 6)


@pytest.mark.parametrize(
    "assignment",
    [
        "actor_label = 'nobody'",
        "action = 'gateway_key.edited'",
        "object_id = 'other'",
        "ip = '10.0.0.1'",
        "after = '{}'",
        "detail = '{\"extra\": 1}'",
        "at = '2020-01-01 00:00:00+00:00'",
    ],
)
def test_an_edited_entry_is_named(assignment: str) -> None:
    victim = sealed(9)[4]
    with tampering():
        execute(f"UPDATE audit_auditentry SET {assignment} WHERE id = %s", victim.id)
    assert found() == {(ProblemCode.ALTERED, victim.id)}


def test_a_deleted_entry_is_named() -> None:
    victim = sealed(9)[4]
    with tampering():
        execute("DELETE FROM audit_auditentry WHERE id = %s", victim.id)
    assert found() == {(ProblemCode.DELETED, victim.id)}


def test_an_entry_deleted_with_its_leaf_is_found() -> None:
    victim = sealed(9)[4]
    with tampering():
        execute("DELETE FROM audit_auditleaf WHERE entry_id = %s", victim.id)
        execute("DELETE FROM audit_auditentry WHERE id = %s", victim.id)
    assert ProblemCode.LEAF_MISSING in {code for code, _ in found()}


def test_an_inserted_entry_is_named() -> None:
    original = sealed(9)[4]
    forged = AuditEntry.objects.get(pk=original.pk)
    forged.pk = original.pk + 1_000
    with tampering():
        forged.save(force_insert=True)
        UnsealedEntry.objects.filter(entry_id=forged.pk).delete()
    assert found() == {(ProblemCode.INSERTED, forged.pk)}


def test_an_entry_deleted_before_it_was_sealed_is_named() -> None:
    sealed(3)
    (victim,) = write()
    with tampering():
        execute("DELETE FROM audit_auditentry WHERE id = %s", victim.id)
    seal()
    assert found() == {(ProblemCode.DELETED, victim.id)}


def test_two_entries_that_changed_places_are_named() -> None:
    entries = sealed(9)
    one, other = entries[1], entries[7]
    with tampering():
        for source, target in ((one, -1), (other, one.id), (None, other.id)):
            execute("UPDATE audit_auditentry SET id = %s WHERE id = %s", target, source.id if source else -1)
    assert found() == {(ProblemCode.ALTERED, one.id), (ProblemCode.ALTERED, other.id)}


def test_leaves_that_changed_places_are_found() -> None:
    entries = sealed(9)
    one, other = (AuditLeaf.objects.get(entry=entry) for entry in (entries[3], entries[5]))
    with tampering():
        for source, target in ((one.index, -1), (other.index, one.index), (-1, other.index)):
            execute('UPDATE audit_auditleaf SET "index" = %s WHERE "index" = %s', target, source)
    (problem,) = verify().problems
    assert problem.code is ProblemCode.REORDERED
    assert f"entries {entries[5].id} to" in problem.detail


def test_an_entry_altered_together_with_its_leaf_is_found() -> None:
    victim = sealed(9)[4]
    with tampering():
        AuditEntry.objects.filter(pk=victim.pk).update(actor_label="nobody")
        victim.refresh_from_db()
        AuditLeaf.objects.filter(entry=victim).update(hash=victim.leaf_hash())
    (problem,) = verify().problems
    assert problem.code is ProblemCode.REORDERED
    assert str(victim.id - 1) in problem.detail, "it lies in the batch of entries 4 to 6"


def test_a_cut_tail_shows_while_its_checkpoint_stands() -> None:
    entries = sealed(9)
    with tampering():
        execute("DELETE FROM audit_auditleaf WHERE entry_id = %s", entries[-1].id)
        execute("DELETE FROM audit_auditentry WHERE id = %s", entries[-1].id)
    assert ProblemCode.LEAF_MISSING in {code for code, _ in found()}


def test_a_leaf_far_beyond_the_end_is_found_without_counting_up_to_it() -> None:
    sealed(3)
    AuditLeaf.objects.create(index=10**15, entry_id=10**15, hash=b"x" * 32)
    assert (ProblemCode.LEAF_MISSING, None) in found()


def test_what_is_queued_in_vain_keeps_nothing_from_being_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.sealing.BATCH", 2)
    again = sealed(3)[0]
    UnsealedEntry.objects.create(entry_id=again.pk)
    UnsealedEntry.objects.bulk_create(UnsealedEntry(entry_id=-number) for number in range(1, 6))
    write(3)
    assert seal() == 3
    assert found() == {(ProblemCode.DELETED, -number) for number in range(1, 6)}


def test_a_hundred_random_edits_are_each_named() -> None:
    entries = sealed(30)
    columns = ["actor_label", "credential", "object_type", "object_label", "actor_id"]
    for _ in range(100):
        victim, column = random.choice(entries), random.choice(columns)
        with transaction.atomic(), tampering():
            execute(f"UPDATE audit_auditentry SET {column} = 'forged' WHERE id = %s", victim.id)
        assert found() == {(ProblemCode.ALTERED, victim.id)}
        with transaction.atomic(), tampering():
            execute(f"UPDATE audit_auditentry SET {column} = %s WHERE id = %s", getattr(victim, column), victim.id)
    assert verify().valid


@pytest.mark.django_db(transaction=True)
def test_sealers_beside_each_other_and_late_commits_leave_no_entry_out() -> None:
    late, go_on = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic():
                write()
                late.set()
                go_on.wait(30)
        finally:
            connection.close()

    def seal_apart() -> None:
        try:
            seal()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(write_slowly)
        assert late.wait(30)
        if connection.vendor == "postgresql":  # SQLite has one writer: nobody overtakes the slow one
            write(20)
            for sealer in [pool.submit(seal_apart) for _ in range(3)]:
                sealer.result()
            verdict = verify()
            assert (verdict.valid, verdict.sealed, verdict.pending) == (True, 20, 0)
        go_on.set()
        slow.result()
    seal()
    assert verify().valid
    assert verify().pending == 0
    assert AuditLeaf.objects.count() == AuditEntry.objects.count()


@contextmanager
def held_up(place: str, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> Iterator[Future[object]]:
    """Let `do` run in a thread with its own connection, and stand still at `place` for as long as the block runs."""
    there, go_on, passed_by = threading.Event(), threading.Event(), import_string(place)

    def wait(*given: object) -> object:
        there.set()
        go_on.wait(30)
        return passed_by(*given)

    def run() -> object:
        try:
            return do()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(place, wait)
            done = pool.submit(run)
            assert there.wait(30)
        try:
            yield done
        finally:
            go_on.set()


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_verification_and_it_sees_one_state(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(6)
    with held_up("audit.verification._check_unsealed", monkeypatch, verify) as verifying:
        write(2)
        assert seal() == 2
        assert not verifying.done()
    verdict = verifying.result()
    assert isinstance(verdict, Verdict)
    assert (verdict.valid, verdict.sealed, verdict.pending, verdict.checkpoints) == (True, 6, 0, 3)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_sealer_that_hangs_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    write(3)
    with held_up("audit.sealing.newest_checkpoint", monkeypatch, seal) as hanging:
        assert seal() == 0
        assert not hanging.done()
    assert hanging.result() == 3


def test_facts_read_back_from_the_database_as_they_were_hashed() -> None:
    facts = {"float": 0.1, "big": 2**53 + 1, "text": "\u2028 é \x00", "nested": {"b": 1, "a": [timedelta(days=1)]}}
    with transaction.atomic():
        entry = record(AuditAction.KEY_EDITED, TESTS, Subject("gateway_key"), after=facts)
    written = entry.leaf_hash()
    entry.refresh_from_db()
    assert entry.leaf_hash() == written
    assert entry.after == plain(facts)

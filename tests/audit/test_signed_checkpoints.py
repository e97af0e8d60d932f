"""Checkpoints are signed, chained, kept fresh and copied; what was cut off or rewritten shows by them."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import IntegrityError, connection

from audit import clock, sealing
from audit.models import AuditEntry, AuditLeaf, Checkpoint, CheckpointCopy
from audit.notes import NO_PREVIOUS, NoteError, VerifierKey, parse, signed_by
from audit.sealing import seal
from audit.signing import believed_keys, public_of, signing_key
from audit.verification import ProblemCode, verify
from audit.witnesses import append_to, copies_in, copy_checkpoints
from tests.audit.test_log import execute, found, sealed, tampering, write

pytestmark = pytest.mark.django_db


def problems() -> set[ProblemCode]:
    return {problem.code for problem in verify().problems}


def copied(count: int, path: Path) -> None:
    """Seal so many entries, one at a time, each checkpoint copied."""
    for _ in range(count):
        write()
        seal()
        newest = sealing.newest_checkpoint()
        assert newest is not None
        with path.open("a") as file:
            file.write(json.dumps({"number": newest.number, "note": newest.note}) + "\n")


def as_key(private: Ed25519PrivateKey) -> str:
    return b64encode(private.private_bytes_raw()).decode()


def test_each_checkpoint_is_signed_and_names_the_one_before() -> None:
    sealed(9)
    notes = [parse(checkpoint.note) for checkpoint in Checkpoint.objects.order_by("number")]
    assert [note.number for note in notes] == [1, 2, 3]
    assert [note.previous for note in notes] == [NO_PREVIOUS, notes[0].digest(), notes[1].digest()]
    for checkpoint in Checkpoint.objects.all():
        assert signed_by(checkpoint.note, believed_keys()) == public_of(signing_key())


def test_a_note_reads_as_the_standard_of_checkpoints_says() -> None:
    sealed(3)
    note = Checkpoint.objects.get(number=3).note
    text, signatures = note.split("\n\n")
    origin, size, root, *others = text.split("\n")
    assert (origin, size) == ("127.0.0.1:8000/audit", "3")
    assert root == b64encode(bytes(Checkpoint.objects.get(number=3).root)).decode()
    assert [line.split()[0] for line in others] == ["number", "previous", "at"]
    assert signatures.startswith(f"— {origin} ")
    assert signatures.endswith("\n")


def test_nothing_happening_is_written_down_too(settings: Any) -> None:
    with time_machine.travel(clock.now(), tick=False) as time:
        assert seal() == 0
        assert Checkpoint.objects.get().size == 0
        seal()
        assert Checkpoint.objects.count() == 1, "the newest one is young"
        time.shift(settings.KEEPTRUSTS_CHECKPOINT_SECONDS + 1)
        seal()
        assert Checkpoint.objects.count() == 2
        assert verify().valid


def test_a_time_without_a_sealer_shows(settings: Any) -> None:
    with time_machine.travel(clock.now(), tick=False) as time:
        sealed(3)
        since = clock.now()
        time.shift(3_600)
        sealed(3)
        verdict = verify()
        assert verdict.valid
        assert [(gap.since, gap.until) for gap in verdict.gaps] == [(since, since + timedelta(hours=1))]


@pytest.mark.parametrize(
    "assignment", ["size = size + 1", "root = peaks", "at = '2020-01-01 00:00:00+00:00'", "note = 'nothing'"]
)
def test_an_edited_checkpoint_is_found(assignment: str) -> None:
    sealed(9)
    with tampering():
        execute(f"UPDATE audit_checkpoint SET {assignment} WHERE number = 2")
    assert ProblemCode.CHECKPOINT in problems()


def test_a_removed_checkpoint_is_found() -> None:
    sealed(9)
    with tampering():
        execute("DELETE FROM audit_checkpoint WHERE number = 2")
    assert (ProblemCode.CHECKPOINT_MISSING, None) in found()


def test_a_log_rewritten_without_the_key_is_found() -> None:
    """Entries, leaves and roots all fit: only the signature does not."""
    victim = sealed(9)[-1]
    stranger = Ed25519PrivateKey.generate()
    with tampering():
        execute("UPDATE audit_auditentry SET actor_label = 'nobody' WHERE id = %s", victim.id)
        execute("DELETE FROM audit_auditleaf")
        execute("DELETE FROM audit_checkpoint")
        execute("INSERT INTO audit_unsealedentry SELECT id FROM audit_auditentry")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audit.sealing.signing_key", lambda: stranger)
            assert seal() == 9
    (problem,) = verify().problems
    assert problem.code is ProblemCode.CHECKPOINT
    assert "signed by no key that is believed here" in problem.detail


def test_a_cut_tail_shows_by_the_copies(settings: Any) -> None:
    copied(5, settings.KEEPTRUSTS_CHECKPOINT_FILE)
    assert (verify().valid, verify().copies) == (True, 5)
    with tampering():
        execute("DELETE FROM audit_checkpoint WHERE number > 3")
        execute('DELETE FROM audit_auditleaf WHERE "index" >= 3')
        execute("DELETE FROM audit_auditentry WHERE id NOT IN (SELECT entry_id FROM audit_auditleaf)")
    assert [problem.code for problem in verify().problems] == [ProblemCode.CHECKPOINT_MISSING] * 2
    assert "the log ends at checkpoint 3" in verify().problems[0].detail


def test_a_log_put_back_and_written_on_shows_by_the_copies(settings: Any) -> None:
    copied(5, settings.KEEPTRUSTS_CHECKPOINT_FILE)
    with tampering():
        execute("DELETE FROM audit_checkpoint WHERE number > 3")
        execute('DELETE FROM audit_auditleaf WHERE "index" >= 3')
        execute("DELETE FROM audit_auditentry WHERE id NOT IN (SELECT entry_id FROM audit_auditleaf)")
    sealed(3)
    codes = [problem.code for problem in verify().problems]
    assert codes == [ProblemCode.COPY] * 2, "4 and 5 were signed a second time, over something else"


def test_a_copy_that_was_edited_is_named(settings: Any) -> None:
    path = settings.KEEPTRUSTS_CHECKPOINT_FILE
    copied(3, path)
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, second.replace("number 2", "number 7"), third[:40]]) + "\n")
    details = [problem.detail for problem in verify().problems]
    assert len(details) == 2
    assert "Line 2 of the copies is not to be believed: its signature" in details[0]
    assert "Line 3 of the copies is not to be believed: it is cut off" in details[1]


def test_the_file_gets_a_line_about_every_interval(settings: Any) -> None:
    path = settings.KEEPTRUSTS_CHECKPOINT_FILE
    with time_machine.travel(clock.now(), tick=False) as time:
        for _ in range(40):  # two minutes
            write()
            seal()
            copy_checkpoints()
            time.shift(3)
    assert [copy.number for copy in copies_in(path)] == [1, 19, 37]
    assert verify().copies == 3


def test_a_line_that_a_full_disk_cut_in_two_costs_that_line_alone(settings: Any) -> None:
    path = settings.KEEPTRUSTS_CHECKPOINT_FILE
    path.write_bytes(b'{"number": 1, "note": "127')
    sealed(3)
    newest = sealing.newest_checkpoint()
    assert newest is not None
    assert append_to(path, newest)
    assert [(copy.number, copy.note is None) for copy in copies_in(path)] == [(0, True), (3, False)]


def test_a_place_that_cannot_be_written_is_told_and_stops_nothing(settings: Any, tmp_path: Path) -> None:
    settings.KEEPTRUSTS_CHECKPOINT_FILE = tmp_path / "a-file" / "copies"
    (tmp_path / "a-file").write_text("")
    settings.KEEPTRUSTS_CHECKPOINT_URL = "http://127.0.0.1:9/"
    sealed(3)
    copy_checkpoints()
    said = dict(CheckpointCopy.objects.values_list("destination", "error"))
    assert said["file"].startswith("FileExistsError") or said["file"].startswith("NotADirectoryError")
    assert said["address"].startswith("ConnectError")


def test_syslog_gets_the_note(settings: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        settings.KEEPTRUSTS_CHECKPOINT_SYSLOG = f"127.0.0.1:{server.getsockname()[1]}"
        sealed(3)
        copy_checkpoints()
        line = server.recv(65_536).decode()
    said = json.loads(line.partition("keeptrusts-audit: ")[2])
    assert said == {"number": 3, "note": Checkpoint.objects.get(number=3).note}
    assert CheckpointCopy.objects.get(destination="syslog").number == 3


def test_another_key_takes_over_without_a_break(settings: Any) -> None:
    sealed(3)
    settings.KEEPTRUSTS_AUDIT_SIGNING_KEY = as_key(Ed25519PrivateKey.generate())
    assert not verify().valid, "the newest one is signed by a key that is not believed any more"
    sealed(3)
    assert verify().valid, "the new key's chain vouches for the old ones"


def test_who_has_only_public_keys_verifies_and_does_not_seal(settings: Any) -> None:
    sealed(3)
    settings.KEEPTRUSTS_AUDIT_PUBLIC_KEYS = [str(VerifierKey(public_of(signing_key()).public, "anyone"))]
    with pytest.raises(ImproperlyConfigured, match="verify the audit log, not seal it"):
        sealed(3)
    settings.KEEPTRUSTS_AUDIT_PUBLIC_KEYS = [b64encode(believed_keys()[0].public).decode()]
    assert verify().valid


@pytest.mark.parametrize("text", ["", "x", "name+00000000+AAAA", "name+00000000+" + b64encode(b"\1" * 33).decode()])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


def test_a_new_pair_works_as_it_is_printed(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("audit_key", "--new")
    private, public = capsys.readouterr().out.splitlines()
    settings.KEEPTRUSTS_AUDIT_SIGNING_KEY = private.partition("=")[2]
    call_command("audit_key")
    assert capsys.readouterr().out.strip() == public.removeprefix("public key: ")
    assert VerifierKey.parse(public.removeprefix("public key: ")).public == believed_keys()[0].public


@pytest.mark.django_db(transaction=True)
def test_of_two_sealers_that_go_on_from_the_same_checkpoint_one_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the lock does not keep them apart, as after a failover: no leaf of the loser stays."""
    sealed(3)
    write(2)
    monkeypatch.setattr("audit.sealing._is_only_sealer", lambda: True)
    here = threading.Barrier(2, timeout=30)
    newest = sealing.newest_checkpoint

    def together() -> Checkpoint | None:
        checkpoint = newest()
        if connection.vendor == "postgresql":  # SQLite's one writer has the other wait before it reads
            here.wait()
        return checkpoint

    def seal_once() -> str:
        try:
            return str(sealing._seal_batch(0))
        except IntegrityError:
            return "lost"
        finally:
            connection.close()

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr("audit.sealing.newest_checkpoint", together)
        ends = sorted(future.result() for future in [pool.submit(seal_once) for _ in range(2)])
    assert len([end for end in ends if end.startswith("(2")]) == 1
    assert AuditLeaf.objects.count() == AuditEntry.objects.count() == 5
    assert [c.number for c in Checkpoint.objects.order_by("number")] == [1, 2, 3, 4]
    assert verify().valid

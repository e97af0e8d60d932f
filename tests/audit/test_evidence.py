"""A bundle proves its entries to somebody who has nothing but a public key, and names the first thing that is wrong."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from access.models import Member
from audit.bundles import Bundle, NoEvidence
from audit.evidence import EvidenceError, check
from audit.models import AuditEntry
from audit.notes import VerifierKey
from audit.sealing import seal
from audit.signing import believed_keys, public_keys, public_of
from tests.audit.test_log import execute, sealed, tampering, write
from tests.factories import make_key

pytestmark = pytest.mark.django_db


def bundle(*, only: list[AuditEntry] | None = None, since: int | None = None) -> list[str]:
    entries = AuditEntry.objects.all()
    filters = {}
    if only is not None:
        entries, filters = entries.filter(pk__in=[entry.pk for entry in only]), {"object_id": "some"}
    return list(Bundle(entries, filters, since=since).lines())


def as_bytes(lines: list[str]) -> list[bytes]:
    return [line.encode() for line in lines]


def fault(lines: list[str]) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        check(as_bytes(lines), believed_keys())
    return caught.value


def test_the_whole_log_is_proven_to_be_whole() -> None:
    sealed(9)
    proven = check(as_bytes(bundle()), believed_keys())
    assert (proven.entries, proven.complete, proven.checkpoint.size) == (9, True, 9)
    assert proven.since is not None
    assert (proven.since.number, proven.since.size) == (1, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_any_choice_of_entries_is_proven(size: int) -> None:
    entries = write(size)
    seal()
    for count in range(1, size + 1):
        some = random.sample(entries, count)
        proven = check(as_bytes(bundle(only=some)), believed_keys())
        assert (proven.entries, proven.complete, proven.filter) == (count, False, {"object_id": "some"})


def test_the_log_has_only_grown_since_each_older_checkpoint() -> None:
    for number in range(1, 12):
        write(number)
        seal()
    for number in range(1, 12):
        since = check(as_bytes(bundle(only=[], since=number)), believed_keys()).since
        assert since is not None
        assert since.number == number


def test_what_is_not_sealed_yet_is_counted_and_left_out() -> None:
    entries = [*sealed(3), *write(2)]
    lines = bundle(only=entries)
    assert json.loads(lines[0])["not_sealed_yet"] == 2
    assert check(as_bytes(lines), believed_keys()).entries == 3


def test_every_line_that_was_touched_is_named() -> None:
    lines = bundle(only=sealed(9)[2:7])
    for number in range(1, len(lines) - 1):
        touched = [*lines]
        touched[number] = touched[number].replace("“", "”", 1)
        assert fault(touched).line == number + 1
        assert fault([*lines[:number], *lines[number + 1 :]]).detail == "5 entries were written, 4 are here"
        assert fault([*lines[: number + 1], lines[number], *lines[number + 1 :]]).line == number + 2
        assert fault(lines[:number]).detail.startswith("the end is missing")
    exchanged = [lines[0], lines[2], lines[1], *lines[3:]]
    assert "entries were exchanged" in fault(exchanged).detail
    assert fault([*lines, lines[1]]).detail == "something follows the end"


def test_a_complete_bundle_leaves_nothing_out() -> None:
    sealed(9)
    lines = bundle()
    assert fault([*lines[:4], *lines[5:]]).detail == "leaf 3 is missing"
    shorter = [*lines[:-2], json.dumps({"end": 8})]
    assert fault(shorter).detail == "these 8 entries are not the 9 that the checkpoint covers"


def test_another_signature_or_head_is_not_believed() -> None:
    sealed(3)
    lines = bundle()
    stranger = public_of(Ed25519PrivateKey.generate())
    with pytest.raises(EvidenceError, match="not signed by the public key that you gave"):
        check(as_bytes(lines), [stranger])
    head = json.loads(lines[0])
    older = head | {"checkpoint": head["checkpoint"].replace("number 3", "number 4")}
    assert "signature" in fault([json.dumps(older), *lines[1:]]).detail
    forked = head | {"since": {"checkpoint": head["since"]["checkpoint"], "proof": ["00" * 32]}}
    assert "does not begin as checkpoint 1" in fault([json.dumps(forked), *lines[1:]]).detail
    for nonsense in ([], ["{}"], ["[]"], ["no JSON"], [json.dumps(head | {"since": 7})]):
        assert fault(nonsense).line == 1


def test_no_bundle_of_a_log_that_was_altered() -> None:
    with pytest.raises(NoEvidence, match="Nothing is sealed yet"):
        bundle()
    victim = sealed(9)[4]
    with tampering():
        execute("DELETE FROM audit_auditleaf WHERE entry_id = %s", victim.id)
    with pytest.raises(NoEvidence, match="does not fit its newest checkpoint"):
        bundle()
    with pytest.raises(NoEvidence, match="no checkpoint 99"):
        bundle(since=99)


def test_an_altered_entry_is_not_proven_by_its_own_bundle() -> None:
    entries = sealed(9)
    with tampering():
        execute("UPDATE audit_auditentry SET actor_label = 'nobody' WHERE id = %s", entries[4].id)
    assert fault(bundle(only=entries[2:6])).detail == f"entry {entries[4].id} is not what was sealed at leaf 4"


def test_it_is_checked_without_database_or_settings(tmp_path: Path) -> None:
    path = tmp_path / "evidence.ndjson"
    sealed(6)
    path.write_text("".join(bundle()))
    command = [sys.executable, "-m", "audit.evidence", str(path), public_keys()[0]]
    proven = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert proven.stdout.startswith("Proven: 6 entries are in the log of 127.0.0.1:8000/audit as they were written.")
    assert "They are all of it. Since checkpoint 1 of" in proven.stdout
    assert (proven.returncode, proven.stderr) == (0, "")
    path.write_text(path.read_text().replace("Key created", "").replace("“1”", "“2”", 1))
    altered = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert (altered.returncode, altered.stdout[:19]) == (1, "NOT PROVEN. Line 8:"), altered.stdout
    missing = subprocess.run([*command[:3], "nowhere", "nonsense"], env={}, capture_output=True, text=True, timeout=60)
    assert missing.returncode == 2


@pytest.fixture
def some_keys() -> None:
    for name in ("one", "two"):
        make_key(name)
    seal()


@pytest.mark.usefixtures("some_keys")
def test_an_auditor_takes_a_bundle_home(auditor_api: APIClient) -> None:
    whole = auditor_api.get("/api/v1/audit-entries/evidence/")
    assert whole["Content-Type"] == "application/x-ndjson"
    assert 'filename="evidence.ndjson"' in whole["Content-Disposition"]
    proven = check(whole.getvalue().splitlines(), believed_keys())
    assert (proven.complete, proven.filter) == (True, {})
    some = auditor_api.get("/api/v1/audit-entries/evidence/?action=gateway_key.created&search=two&since=1")
    proven = check(some.getvalue().splitlines(), believed_keys())
    assert (proven.entries, proven.complete) == (1, False)
    assert proven.filter == {"action": "gateway_key.created", "search": "two"}
    taken = AuditEntry.objects.filter(action="audit.exported").order_by("-id")
    assert taken[0].detail == {
        "filter": {"action": "gateway_key.created", "search": "two", "since": 1, "format": "keeptrusts-evidence/1"},
        "rows": 1,
    }


def test_what_cannot_be_proven_is_refused_with_the_reason(auditor_api: APIClient) -> None:
    address = "/api/v1/audit-entries/evidence/"
    answer = auditor_api.get(address)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_evidence")
    assert auditor_api.get(f"{address}?since=x").json()["fields"]["since"][0]["code"] == "invalid"
    assert auditor_api.get(f"{address}?page=1").json()["fields"]["page"][0]["code"] == "unknown_parameter"
    assert not AuditEntry.objects.filter(action="audit.exported").exists()


@pytest.mark.usefixtures("some_keys")
def test_the_console_gives_out_what_its_list_shows(auditor: Member, client: Client) -> None:
    client.force_login(auditor)
    bundle = client.get("/admin/audit/auditentry/evidence/?q=two")
    proven = check(bundle.getvalue().splitlines(), believed_keys())
    assert {json.loads(line)["index"] for line in bundle.getvalue().splitlines()[1:-1]} <= set(range(99))
    assert (proven.complete, proven.filter) == (False, {"q": "two"})


def test_the_console_says_why_there_is_none(auditor: Member, client: Client) -> None:
    client.force_login(auditor)
    answer = client.get("/admin/audit/auditentry/evidence/", follow=True)
    assert "Nothing is sealed yet" in answer.content.decode()


def test_the_command_takes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evidence.ndjson"
    path.write_text("".join(bundle(only=sealed(6)[:2])))
    call_command("verify_audit", str(path), "--public-key", public_keys()[0])
    assert "That there are no others which match the filter is not proven" in capsys.readouterr().out
    stranger = VerifierKey(public_of(Ed25519PrivateKey.generate()).public, "x")
    with pytest.raises(SystemExit):
        call_command("verify_audit", str(path), "--public-key", str(stranger))
    assert capsys.readouterr().out.startswith("NOT PROVEN. Line 1: the checkpoint is not signed")
    with pytest.raises(CommandError, match="nowhere cannot be read: No such file"):
        call_command("verify_audit", "nowhere")
    with pytest.raises(CommandError, match="--public-key: a public key is name"):
        call_command("verify_audit", str(path), "--public-key", "nonsense")

"""Proof that the sealed log is what was written: leaves and roots are computed again and compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import batched
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from audit.actions import AuditAction
from audit.actor import Actor
from audit.merkle import Tree
from audit.models import AuditEntry, AuditLeaf, Checkpoint, UnsealedEntry
from audit.notes import NO_PREVIOUS, NoteError, Statement, VerifierKey, parse, signed_by
from audit.recording import Subject, record
from audit.sealing import tree_at
from audit.signing import believed_keys
from audit.witnesses import copies_in

CHUNK = 2_000
# Beyond this many, the log is beyond doubt broken and a longer list helps nobody.
MOST_PROBLEMS = 100
MOST_GAPS = 20


class ProblemCode(StrEnum):
    ALTERED = "entry_altered"
    DELETED = "entry_deleted"
    INSERTED = "entry_inserted"
    LEAF_MISSING = "leaf_missing"
    REORDERED = "entries_reordered"
    CHECKPOINT = "checkpoint_altered"
    CHECKPOINT_MISSING = "checkpoint_missing"
    COPY = "copy_differs"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. entry_id: the entry it concerns, None where a whole range does."""

    code: ProblemCode
    entry_id: int | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code.value, "entry_id": self.entry_id, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no checkpoint was written though one was due: nobody sealed."""

    since: datetime
    until: datetime


@dataclass(slots=True)
class Verdict:
    """What verification found. sealed, pending: entries with and without a leaf.

    checkpoints: how many signed ones were checked, last_checkpoint_at the newest's time; copies: how many of those kept
    outside the database were compared; gaps: the newest ones, which prove nothing and are worth a question.
    """

    sealed: int = 0
    pending: int = 0
    checkpoints: int = 0
    last_checkpoint_at: datetime | None = None
    copies: int = 0
    gaps: list[Gap] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "valid": self.valid,
            "sealed": self.sealed,
            "pending": self.pending,
            "checkpoints": self.checkpoints,
            "last_checkpoint_at": self.last_checkpoint_at,
            "copies": self.copies,
            "gaps": [{"since": gap.since, "until": gap.until} for gap in self.gaps],
            "problems": [problem.as_json() for problem in self.problems],
        }


def verify(copies: Path | None = None, keys: list[VerifierKey] | None = None) -> Verdict:
    """Recompute every leaf, root and signature and name what does not fit; memory does not grow with the log.

    Every edit, deletion, insertion or reordering of sealed entries is found, and what was cut off or rewritten up to
    the last copy of a checkpoint. Entries not sealed yet are counted as pending: until the sealer has reached them
    nothing can be proved of them.
    copies: the file of copies to compare with, unless told the one that the sealer of this host writes, where there is
    one. keys: the public keys to believe, unless told those of the settings. Errors: OSError where `copies` cannot be
    read.
    """
    if copies is None and settings.KEEPTRUSTS_CHECKPOINT_FILE.is_file():
        copies = settings.KEEPTRUSTS_CHECKPOINT_FILE
    keys = believed_keys() if keys is None else keys
    with _one_snapshot():
        verdict = Verdict()
        _check_leaves(verdict, keys)
        _check_unsealed(verdict)
        if copies is not None:
            _check_copies(verdict, copies, keys)
    del verdict.problems[MOST_PROBLEMS:]
    return verdict


def verify_for(actor: Actor) -> Verdict:
    """Verify on behalf of `actor`; that they asked, and what they were told, is recorded."""
    verdict = verify()
    detail = {"valid": verdict.valid, "sealed": verdict.sealed, "problems": len(verdict.problems)}
    with transaction.atomic():
        record(AuditAction.AUDIT_VERIFIED, actor, Subject("audit_entry"), detail=detail)
    return verdict


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """Let all reads of the block see one state of the database, and let nobody wait for them."""
    connection = transaction.get_connection()
    outermost = not connection.in_atomic_block
    with _deferred(connection) if outermost and connection.vendor == "sqlite" else nullcontext(), transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


@contextmanager
def _deferred(connection: Any) -> Iterator[None]:
    """Let transactions of the block only read: beginning as all others do (IMMEDIATE), one would keep writers out."""
    connection.ensure_connection()  # which sets the mode that the settings name
    mode, connection.transaction_mode = connection.transaction_mode, "DEFERRED"
    try:
        yield
    finally:
        connection.transaction_mode = mode


def _check_leaves(verdict: Verdict, keys: list[VerifierKey]) -> None:
    tree = Tree()
    checkpoints = _checkpoints(verdict, keys)
    checkpoint = next(checkpoints, None)
    since = 0  # the first leaf of the checkpoint at hand
    ids: list[int] = []  # the entries under it
    for leaf, entry in _leaves_with_entries():
        while checkpoint is not None and checkpoint.size <= tree.size:
            tree = _check_root(verdict, checkpoint, tree, ids, since)
            since, ids = tree.size, []
            checkpoint = next(checkpoints, None)
        while tree.size < leaf.index and len(verdict.problems) < MOST_PROBLEMS:
            verdict.problems.append(
                Problem(ProblemCode.LEAF_MISSING, None, f"Leaf {tree.size} of the tree is missing.")
            )
            tree.append(b"\x00" * 32)
        if len(verdict.problems) >= MOST_PROBLEMS:
            return
        if leaf.index < tree.size:  # only a negative index can be
            verdict.problems.append(
                Problem(ProblemCode.LEAF_MISSING, leaf.entry_id, f"Leaf {leaf.index} has no place in the tree.")
            )
            continue
        verdict.sealed += 1
        ids.append(leaf.entry_id)
        tree.append(bytes(leaf.hash))
        _check_entry(verdict, leaf, entry)
    while checkpoint is not None and checkpoint.size <= tree.size:
        tree = _check_root(verdict, checkpoint, tree, ids, since)
        since, ids = tree.size, []
        checkpoint = next(checkpoints, None)
    if ids:
        verdict.problems.append(
            Problem(ProblemCode.CHECKPOINT, ids[0], f"No checkpoint covers entry {ids[0]} and those sealed after it.")
        )
    if checkpoint is not None:
        verdict.problems.append(
            Problem(
                ProblemCode.LEAF_MISSING,
                None,
                f"A checkpoint of {checkpoint.size} entries exists, but only {tree.size} leaves: the end is cut off.",
            )
        )
        # The rest of them, for their signatures.
        for _ in checkpoints:
            if len(verdict.problems) >= MOST_PROBLEMS:
                return


def _checkpoints(verdict: Verdict, keys: list[VerifierKey]) -> Iterator[Checkpoint]:
    """Give the checkpoints in their order, each checked for its number, chain, columns and signature."""
    previous: Statement | None = None
    longest = timedelta(seconds=settings.KEEPTRUSTS_CHECKPOINT_SECONDS * 3 + 60)
    believed = True
    for checkpoint in Checkpoint.objects.order_by("number").iterator(CHUNK):
        wrong, statement, believed = _what_is_wrong(checkpoint, previous, keys)
        verdict.problems.extend(
            Problem(code, None, f"Checkpoint {checkpoint.number}: {detail}.") for code, detail in wrong
        )
        if previous and checkpoint.at - previous.at > longest:
            verdict.gaps = [*verdict.gaps[1 - MOST_GAPS :], Gap(previous.at, checkpoint.at)]
        verdict.checkpoints += 1
        verdict.last_checkpoint_at = checkpoint.at
        previous = statement or previous
        yield checkpoint
    if not believed:
        verdict.problems.append(
            Problem(
                ProblemCode.CHECKPOINT,
                None,
                "The newest checkpoint is signed by no key that is believed here (KEEPTRUSTS_AUDIT_PUBLIC_KEYS).",
            )
        )


def _what_is_wrong(
    checkpoint: Checkpoint, previous: Statement | None, keys: list[VerifierKey]
) -> tuple[list[tuple[ProblemCode, str]], Statement | None, bool]:
    """Return what is wrong with the note, what it states, and whether a believed key has signed it.

    A signature that no believed key made is no fault by itself: keys are renewed, and what the next checkpoint's chain
    covers is vouched for by the newest one's signature.
    """
    code, wrong, believed = ProblemCode.CHECKPOINT, [], False
    try:
        statement = parse(checkpoint.note)
        believed = signed_by(checkpoint.note, keys) is not None
    except NoteError as error:
        return [(code, f"{error}: it was altered")], None, True
    stated = (statement.number, statement.size, statement.root, statement.at)
    if stated != (checkpoint.number, checkpoint.size, bytes(checkpoint.root), checkpoint.at):
        wrong.append((code, "its row and what was signed differ: it was altered"))
    number, digest = (previous.number, previous.digest()) if previous else (0, NO_PREVIOUS)
    if statement.number != number + 1:
        told = f"the one before it is {number}" if number else "there is none before it"
        wrong.append((ProblemCode.CHECKPOINT_MISSING, f"{told}: those between were removed"))
    elif statement.previous != digest:
        wrong.append((code, f"it does not follow checkpoint {number}: one of the two was replaced"))
    if previous and statement.size < previous.size:
        wrong.append((code, "it covers fewer entries than the one before it"))
    return wrong, statement, believed


def _check_copies(verdict: Verdict, path: Path, keys: list[VerifierKey]) -> None:
    """Compare the copies with the checkpoints of the same numbers."""
    newest = Checkpoint.objects.order_by("-number").values_list("number", flat=True).first() or 0
    for some in batched(copies_in(path), CHUNK):
        ours = dict(Checkpoint.objects.filter(number__in=[c.number for c in some]).values_list("number", "note"))
        for copy in some:
            if len(verdict.problems) >= MOST_PROBLEMS:
                return
            wrong = copy.problem or _signature_fault(copy.note or "", keys)
            if wrong:
                detail = f"Line {copy.line} of the copies is not to be believed: {wrong}."
                verdict.problems.append(Problem(ProblemCode.COPY, None, detail))
                continue
            verdict.copies += 1
            note = ours.get(copy.number)
            if note == copy.note:
                continue
            at = parse(copy.note or "").at
            if note is None:
                detail = (
                    f"Checkpoint {copy.number} of {at:%Y-%m-%d %H:%M:%S} UTC was copied and is gone: the log "
                    f"ends at checkpoint {newest}, its end was cut off or an older state was put back."
                    if copy.number > newest
                    else f"Checkpoint {copy.number} of {at:%Y-%m-%d %H:%M:%S} UTC was copied and is gone."
                )
                verdict.problems.append(Problem(ProblemCode.CHECKPOINT_MISSING, None, detail))
            else:
                detail = f"Checkpoint {copy.number} is not the one that was copied: the log was rewritten."
                verdict.problems.append(Problem(ProblemCode.COPY, None, detail))


def _signature_fault(note: str, keys: list[VerifierKey]) -> str:
    try:
        signed_by(note, keys)
    except NoteError as error:
        return str(error)
    return ""


def _leaves_with_entries() -> Iterator[tuple[AuditLeaf, AuditEntry | None]]:
    leaves = AuditLeaf.objects.order_by("index").iterator(CHUNK)
    while chunk := [leaf for _, leaf in zip(range(CHUNK), leaves, strict=False)]:
        entries = AuditEntry.objects.in_bulk([leaf.entry_id for leaf in chunk])
        for leaf in chunk:
            yield leaf, entries.get(leaf.entry_id)


def _check_entry(verdict: Verdict, leaf: AuditLeaf, entry: AuditEntry | None) -> None:
    if entry is None:
        verdict.problems.append(
            Problem(ProblemCode.DELETED, leaf.entry_id, f"Entry {leaf.entry_id} was sealed and is gone.")
        )
    elif entry.leaf_hash() != bytes(leaf.hash):
        verdict.problems.append(
            Problem(ProblemCode.ALTERED, entry.id, f"Entry {entry.id} is not what was sealed: it was altered.")
        )


def _check_root(verdict: Verdict, checkpoint: Checkpoint, tree: Tree, ids: list[int], since: int) -> Tree:
    """Compare, and return the tree to go on with: the checkpoint's own, so that one fault is reported once."""
    sound = checkpoint.size == tree.size
    if sound and tree.root() == bytes(checkpoint.root):
        return tree
    covered = f"entries {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"entry {ids[0]}" if ids else "no new entry"
    code = ProblemCode.REORDERED if sound else ProblemCode.CHECKPOINT
    verdict.problems.append(
        Problem(
            code,
            ids[0] if len(ids) == 1 else None,
            f"The root over leaves {since} to {checkpoint.size - 1} ({covered}) is not the one of its checkpoint: "
            "leaves were exchanged or rewritten, or the checkpoint was.",
        )
    )
    if not sound:
        return tree
    try:
        sealed = tree_at(checkpoint)
    except ValueError:
        return tree
    return sealed if sealed.root() == bytes(checkpoint.root) else tree


def _check_unsealed(verdict: Verdict) -> None:
    verdict.pending = AuditEntry.objects.filter(leaf__isnull=True, unsealed__isnull=False).count()
    forged = AuditEntry.objects.filter(leaf__isnull=True, unsealed__isnull=True).order_by("id")
    verdict.problems.extend(
        Problem(
            ProblemCode.INSERTED,
            entry_id,
            f"Entry {entry_id} was never handed to the sealer: it was put in from outside.",
        )
        for entry_id in forged.values_list("id", flat=True)[:MOST_PROBLEMS]
    )
    entry = AuditEntry.objects.filter(id=OuterRef("entry_id"))
    queued = UnsealedEntry.objects.filter(~Exists(entry)).order_by("entry_id")
    verdict.problems.extend(
        Problem(ProblemCode.DELETED, entry_id, f"Entry {entry_id} was waiting to be sealed and is gone.")
        for entry_id in queued.values_list("entry_id", flat=True)[:MOST_PROBLEMS]
    )

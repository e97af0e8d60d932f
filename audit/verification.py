"""Proof that the sealed log is what was written: leaves and roots are computed again and compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef

from audit.actions import AuditAction
from audit.actor import Actor
from audit.merkle import Tree
from audit.models import AuditCheckpoint, AuditEntry, AuditLeaf, UnsealedEntry
from audit.recording import Subject, record
from audit.sealing import tree_at

CHUNK = 2_000
# Beyond this many, the log is beyond doubt broken and a longer list helps nobody.
MOST_PROBLEMS = 100


class ProblemCode(StrEnum):
    ALTERED = "entry_altered"
    DELETED = "entry_deleted"
    INSERTED = "entry_inserted"
    LEAF_MISSING = "leaf_missing"
    REORDERED = "entries_reordered"
    CHECKPOINT = "checkpoint_altered"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. entry_id: the entry it concerns, None where a whole range does."""

    code: ProblemCode
    entry_id: int | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code.value, "entry_id": self.entry_id, "detail": self.detail}


@dataclass(slots=True)
class Verdict:
    """What verification found. sealed, pending: entries with and without a leaf."""

    sealed: int = 0
    pending: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "valid": self.valid,
            "sealed": self.sealed,
            "pending": self.pending,
            "problems": [problem.as_json() for problem in self.problems],
        }


def verify() -> Verdict:
    """Recompute every leaf and every root and name what does not fit; memory does not grow with the log.

    Every edit, deletion, insertion or reordering of sealed entries is found. Entries not sealed yet are counted as
    pending: until the sealer has reached them nothing can be proved of them.
    """
    with _one_snapshot():
        verdict = Verdict()
        _check_leaves(verdict)
        _check_unsealed(verdict)
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


def _check_leaves(verdict: Verdict) -> None:
    tree = Tree()
    checkpoints = AuditCheckpoint.objects.order_by("size").iterator(CHUNK)
    checkpoint = next(checkpoints, None)
    since = 0  # the first leaf of the checkpoint at hand
    ids: list[int] = []  # the entries under it
    for leaf, entry in _leaves_with_entries():
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
            tree = _check_checkpoint(verdict, checkpoint, tree, ids, since)
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


def _check_checkpoint(verdict: Verdict, checkpoint: AuditCheckpoint, tree: Tree, ids: list[int], since: int) -> Tree:
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

"""The sealer: gives every entry its leaf and writes a checkpoint. One writer at a time."""

from __future__ import annotations

from django.db import connection, transaction

from audit import clock
from audit.merkle import Tree
from audit.models import AuditCheckpoint, AuditEntry, AuditLeaf, UnsealedEntry

# Entries a transaction; the lock is held for as long as these take.
BATCH = 1_000
# Any number that no other advisory lock of ours uses.
SEALER_LOCK = 0x5EA1


def seal() -> int:
    """Seal every entry that was committed when it looked; returns how many.

    Entries are found by having no leaf (a trigger queues them), never by a highest id seen: transactions commit
    out of order. Safe under several sealers and when killed at any point.
    """
    sealed = 0
    while count := _seal_batch():
        sealed += count
        if count < BATCH:
            break
    return sealed


@transaction.atomic
def _seal_batch() -> int:
    _become_only_sealer()
    waiting = list(UnsealedEntry.objects.order_by("entry_id").values_list("entry_id", flat=True)[:BATCH])
    if not waiting:
        return 0
    tree = latest_tree()
    entries = list(AuditEntry.objects.filter(id__in=waiting).order_by("id"))
    leaves = []
    for entry in entries:
        leaf = entry.leaf_hash()
        leaves.append(AuditLeaf(index=tree.size, entry_id=entry.id, hash=leaf))
        tree.append(leaf)
    AuditLeaf.objects.bulk_create(leaves)
    if leaves:
        AuditCheckpoint.objects.create(size=tree.size, root=tree.root(), peaks=b"".join(tree.peaks), at=clock.now())
    # A queued entry that is gone stays in the queue: verification finds it there and names it.
    UnsealedEntry.objects.filter(entry_id__in=[leaf.entry_id for leaf in leaves]).delete()
    return len(leaves)


def latest_tree() -> Tree:
    """Return the tree as of the newest checkpoint, ready to grow."""
    checkpoint = AuditCheckpoint.objects.order_by("-size").first()
    return tree_at(checkpoint) if checkpoint else Tree()


def tree_at(checkpoint: AuditCheckpoint) -> Tree:
    """Return the tree that `checkpoint` describes; ValueError where its peaks do not fit its size."""
    peaks = bytes(checkpoint.peaks)
    return Tree(checkpoint.size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


def _become_only_sealer() -> None:
    # SQLite needs no lock: its transactions are IMMEDIATE, so there is one writer anyway.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEALER_LOCK])

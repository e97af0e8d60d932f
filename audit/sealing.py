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
    """Seal every entry that was committed when it looked; returns how many. Where another sealer is at it: none.

    Entries are found by having no leaf (a trigger queues them), never by a highest id of an earlier run: transactions
    commit out of order. Safe under several sealers and when killed at any point.
    """
    sealed, after = 0, 0
    while batch := _seal_batch(after):
        count, after = batch
        sealed += count
    return sealed


@transaction.atomic
def _seal_batch(after: int) -> tuple[int, int] | None:
    """Seal the next entries with ids above `after`; return how many and the last id looked at, None at the end."""
    if not _is_only_sealer():
        return None
    queue = UnsealedEntry.objects.filter(entry_id__gt=after).order_by("entry_id")
    waiting = list(queue.values_list("entry_id", flat=True)[:BATCH])
    if not waiting:
        return None
    # Whoever queues an entry a second time must not keep the others from being sealed.
    known = set(AuditLeaf.objects.filter(entry_id__in=waiting).values_list("entry_id", flat=True))
    tree = latest_tree()
    leaves = []
    for entry in AuditEntry.objects.filter(id__in=set(waiting) - known).order_by("id"):
        leaf = entry.leaf_hash()
        leaves.append(AuditLeaf(index=tree.size, entry_id=entry.id, hash=leaf))
        tree.append(leaf)
    AuditLeaf.objects.bulk_create(leaves)
    if leaves:
        AuditCheckpoint.objects.create(size=tree.size, root=tree.root(), peaks=b"".join(tree.peaks), at=clock.now())
    # A queued entry that is gone stays in the queue: verification finds it there and names it.
    UnsealedEntry.objects.filter(entry_id__in=known.union(leaf.entry_id for leaf in leaves)).delete()
    return len(leaves), waiting[-1]


def latest_tree() -> Tree:
    """Return the tree as of the newest checkpoint, ready to grow."""
    checkpoint = AuditCheckpoint.objects.order_by("-size").first()
    return tree_at(checkpoint) if checkpoint else Tree()


def tree_at(checkpoint: AuditCheckpoint) -> Tree:
    """Return the tree that `checkpoint` describes; ValueError where its peaks do not fit its size."""
    peaks = bytes(checkpoint.peaks)
    return Tree(checkpoint.size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


def _is_only_sealer() -> bool:
    """Say whether this transaction alone seals, until it ends.

    Nobody waits: what a host that vanished in the middle holds is let go when the server notices, which may take hours,
    and sealers waiting for it would leave a worker no thread for anything else.
    """
    # SQLite needs no lock: its transactions are IMMEDIATE, so there is one writer anyway.
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [SEALER_LOCK])
        (mine,) = cursor.fetchone()
    return bool(mine)

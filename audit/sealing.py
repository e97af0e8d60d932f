"""The sealer: gives every entry its leaf and writes signed checkpoints. One writer at a time."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction

from audit import clock
from audit.merkle import Tree
from audit.models import AuditEntry, AuditLeaf, Checkpoint, UnsealedEntry
from audit.notes import NO_PREVIOUS, Statement, parse
from audit.signing import signing_key

# Entries a transaction; the lock is held for as long as these take.
BATCH = 1_000
# Any number that no other advisory lock of ours uses.
SEALER_LOCK = 0x5EA1


def seal() -> int:
    """Seal every entry that was committed when it looked; returns how many. Where another sealer is at it: none.

    Entries are found by having no leaf (a trigger queues them), never by a highest id of an earlier run: transactions
    commit out of order. Safe under several sealers and when killed at any point. Afterwards the newest checkpoint is
    no older than KEEPTRUSTS_CHECKPOINT_SECONDS, though nothing happened: a time without one shows.
    """
    sealed, after = 0, 0
    while batch := _seal_batch(after):
        count, after = batch
        sealed += count
    _keep_fresh()
    return sealed


def newest_checkpoint() -> Checkpoint | None:
    """Return the checkpoint that the next one goes on from, None before the first."""
    return Checkpoint.objects.order_by("-number").first()


def tree_at(checkpoint: Checkpoint) -> Tree:
    """Return the tree that `checkpoint` describes; ValueError where its peaks do not fit its size."""
    peaks = bytes(checkpoint.peaks)
    return Tree(checkpoint.size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


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
    newest = newest_checkpoint()
    tree = tree_at(newest) if newest else Tree()
    leaves = []
    for entry in AuditEntry.objects.filter(id__in=set(waiting) - known).order_by("id"):
        leaf = entry.leaf_hash()
        leaves.append(AuditLeaf(index=tree.size, entry_id=entry.id, hash=leaf))
        tree.append(leaf)
    AuditLeaf.objects.bulk_create(leaves)
    if leaves:
        _write(tree, newest)
    # A queued entry that is gone stays in the queue: verification finds it there and names it.
    UnsealedEntry.objects.filter(entry_id__in=known.union(leaf.entry_id for leaf in leaves)).delete()
    return len(leaves), waiting[-1]


@transaction.atomic
def _keep_fresh() -> None:
    """Write a checkpoint of the same tree where the newest one has become old."""
    if not _is_only_sealer():
        return
    newest = newest_checkpoint()
    oldest = clock.now() - timedelta(seconds=settings.KEEPTRUSTS_CHECKPOINT_SECONDS)
    if newest is None or newest.at < oldest:
        _write(tree_at(newest) if newest else Tree(), newest)


def _write(tree: Tree, previous: Checkpoint | None) -> None:
    """Write the checkpoint after `previous`; IntegrityError where another sealer has written it meanwhile."""
    statement = Statement(
        origin=settings.KEEPTRUSTS_AUDIT_ORIGIN,
        size=tree.size,
        root=tree.root(),
        number=previous.number + 1 if previous else 1,
        previous=parse(previous.note).digest() if previous else NO_PREVIOUS,
        at=clock.now(),
    )
    # Inserted, never updated: the primary key is what lets only one follow `previous`.
    Checkpoint(
        number=statement.number,
        size=statement.size,
        root=statement.root,
        peaks=b"".join(tree.peaks),
        at=statement.at,
        note=statement.signed(signing_key()),
    ).save(force_insert=True)


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

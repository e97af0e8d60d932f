"""The append-only Merkle tree of RFC 6962 §2.1, kept as the peaks of its complete subtrees.

A tree of n leaves has one peak for every 1-bit of n, largest first; appending and the root need nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

# Bytes of a hash.
HASH = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an interior node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A Merkle tree that only grows; memory is logarithmic in its size."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(self.peaks)}")

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf at the right."""
        self.peaks.append(leaf)
        self.size += 1
        # Every trailing 0-bit of the new size is a pair of equal subtrees that has just become complete.
        complete = (self.size & -self.size).bit_length() - 1
        for _ in range(complete):
            right = self.peaks.pop()
            self.peaks.append(node_hash(self.peaks.pop(), right))

    def root(self) -> bytes:
        """Return the tree hash of everything appended so far, 32 bytes."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


class Levels:
    """All nodes of a tree whose leaves are known: 64 bytes a leaf, and any proof in logarithmic time."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        """Compute every node over complete pairs; leaves: hashes as of `leaf_hash`."""
        self._levels = [bytearray(b"".join(leaves))]
        while len(self._levels[-1]) > HASH:
            below = memoryview(self._levels[-1])
            above = bytearray()
            for at in range(0, len(below) - HASH, 2 * HASH):
                above += hashlib.sha256(b"\x01" + below[at : at + 2 * HASH]).digest()
            self._levels.append(above)
        self.size = len(self._levels[0]) // HASH

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, all unless told."""
        size = self.size if size is None else size
        return self._over(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of leaf `index` in the tree of the first `size` leaves, RFC 6962 §2.1.1."""
        if not 0 <= index < size <= self.size:
            raise ValueError(f"no leaf {index} in a tree of {size}")
        path, start, end = [], 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._over(middle, end))
                end = middle
            else:
                path.append(self._over(start, middle))
                start = middle
        return path[::-1]

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Return the proof that the first `second` leaves begin with the first `first`, RFC 6962 §2.1.2."""
        if not 0 < first <= second <= self.size:
            raise ValueError(f"no proof from {first} to {second} leaves")
        proof: list[bytes] = []
        start, end, whole = 0, second, True
        while first != end:
            middle = start + _split(end - start)
            if first <= middle:
                proof.append(self._over(middle, end))
                end = middle
            else:
                proof.append(self._over(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._over(start, end))
        return proof[::-1]

    def _over(self, start: int, end: int) -> bytes:
        """Return the hash over the leaves from `start` to `end`: `start` is a multiple of the split's size."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            at = (start >> level) * HASH
            return bytes(self._levels[level][at : at + HASH])
        middle = start + _split(count)
        return node_hash(self._over(start, middle), self._over(middle, end))


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that the path leads to, None where it has a wrong length, RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        return None
    at, last, root = index, size - 1, leaf
    for node in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            root = node_hash(node, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = node_hash(root, node)
        at, last = at >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether the proof shows that the second tree begins with the first one, RFC 9162 §2.1.4.2."""
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    if not 0 < first < second or not proof:
        return False
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import Tree, leaf_hash

pytestmark = pytest.mark.once


def mth(data: list[bytes]) -> bytes:
    """The Merkle Tree Hash as RFC 6962 §2.1 defines it, by recursion, to hold ours against."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_root_is_the_one_of_rfc_6962_at_every_size(data: list[bytes]) -> None:
    tree = Tree()
    assert tree.root() == mth([])
    for size, item in enumerate(data, start=1):
        tree.append(leaf_hash(item))
        assert tree.size == size
        assert tree.root() == mth(data[:size])


@given(st.lists(st.binary(max_size=8), max_size=40), st.integers(0, 40))
def test_a_tree_goes_on_from_its_peaks(data: list[bytes], at: int) -> None:
    at = min(at, len(data))
    first = Tree()
    for item in data[:at]:
        first.append(leaf_hash(item))
    second = Tree(first.size, first.peaks)
    for item in data[at:]:
        second.append(leaf_hash(item))
    assert second.root() == mth(data)


def test_peaks_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="peaks"):
        Tree(3, [b"x" * 32])


def test_the_tree_is_the_one_of_the_published_test_vectors() -> None:
    """Leaves and roots that implementations of Certificate Transparency share."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf_hash(bytes.fromhex(leaf)))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"

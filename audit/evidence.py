"""Check an evidence bundle with nothing else at hand: no database, no settings, only this file's own imports.

    manage.py verify_audit BUNDLE --public-key KEY
    python -m audit.evidence BUNDLE KEY

A bundle is NDJSON (docs/audit.md): a head with the signed checkpoint, entries as they were hashed, each with its audit
path (RFC 6962 §2.1.1), and an end with their number. A complete one has no paths: the root over all of it is the proof.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit.merkle import Tree, is_consistent, leaf_hash, root_by_inclusion
from audit.notes import NoteError, Statement, VerifierKey, parse, signed_by

FORMAT: Final = "keeptrusts-evidence/1"


class EvidenceError(ValueError):
    """The first thing in a bundle that does not hold; line: where, counted from 1."""

    def __init__(self, line: int, detail: str) -> None:
        self.line, self.detail = line, detail
        super().__init__(f"Line {line}: {detail}")


@dataclass(frozen=True, slots=True)
class Proven:
    """What a bundle proves. since: the older checkpoint that the log has only grown from."""

    checkpoint: Statement
    key: VerifierKey
    entries: int
    complete: bool
    since: Statement | None
    filter: dict[str, Any]


def check(lines: Iterable[bytes], keys: Iterable[VerifierKey]) -> Proven:
    """Return what the bundle proves if one of `keys` has signed its checkpoint.

    Errors: EvidenceError with the first thing that is wrong.
    """
    numbered = _read(lines)
    head = _first(numbered)
    checkpoint, key = _signed(head.get("checkpoint"), list(keys), "the checkpoint")
    since = _grown_from(head.get("since"), checkpoint, key)
    complete = head.get("complete") is True
    tree, entries, last = Tree(), 0, -1
    for number, row in numbered:
        if "end" in row:
            _end(numbered, number, row, entries)
            break
        last = _entry(number, row, checkpoint, tree if complete else None, last)
        entries += 1
    else:
        raise EvidenceError(entries + 2, "the end is missing: the file was cut off")
    if complete and (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        raise EvidenceError(
            entries + 2, f"these {tree.size} entries are not the {checkpoint.size} that the checkpoint covers"
        )
    filters = head.get("filter")
    return Proven(checkpoint, key, entries, complete, since, filters if isinstance(filters, dict) else {})


def told(proven: Proven) -> str:
    """Return in a few sentences what is proven, and what is not."""
    of = proven.checkpoint
    words = [
        f"Proven: {proven.entries:,} entries are in the log of {of.origin} as they were written. Checkpoint "
        f"{of.number} of {of.at:%Y-%m-%d %H:%M:%S} UTC, over {of.size:,} entries, is signed by the key {proven.key}."
    ]
    words.append(
        "They are all of it."
        if proven.complete
        else "That there are no others which match the filter is not proven: a complete bundle would."
    )
    if proven.since is not None:
        words.append(
            f"Since checkpoint {proven.since.number} of {proven.since.at:%Y-%m-%d %H:%M:%S} UTC the log has only grown."
        )
    return " ".join(words)


def main(arguments: list[str]) -> int:
    """Check the bundle that is named; 0 where it holds, 1 where not, 2 where it cannot be read."""
    if len(arguments) < 2:
        sys.stderr.write("usage: python -m audit.evidence BUNDLE PUBLIC_KEY…\n")
        return 2
    try:
        keys = [VerifierKey.parse(text) for text in arguments[1:]]
        with Path(arguments[0]).open("rb") as file:
            sys.stdout.write(f"{told(check(file, keys))}\n")
    except EvidenceError as error:
        sys.stdout.write(f"NOT PROVEN. {error}.\n")
        return 1
    except (OSError, NoteError) as error:
        sys.stderr.write(f"{error}.\n")
        return 2
    return 0


def _read(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvidenceError(number, "it is no JSON: the file was cut off or altered") from error
        if not isinstance(row, dict):
            raise EvidenceError(number, "it is no JSON object")
        yield number, row


def _first(numbered: Iterator[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    _, head = next(numbered, (1, {}))
    if head.get("format") != FORMAT:
        raise EvidenceError(1, f"it does not begin as an evidence bundle ({FORMAT})")
    return head


def _signed(note: object, keys: list[VerifierKey], what: str) -> tuple[Statement, VerifierKey]:
    try:
        statement = parse(str(note))
        key = signed_by(str(note), keys)
    except NoteError as error:
        raise EvidenceError(1, f"{what}: {error}") from error
    if key is None:
        raise EvidenceError(1, f"{what} is not signed by the public key that you gave")
    return statement, key


def _grown_from(since: object, checkpoint: Statement, key: VerifierKey) -> Statement | None:
    if since is None:
        return None
    if not isinstance(since, dict):
        raise EvidenceError(1, "the older checkpoint is none")
    try:
        older = parse(str(since.get("checkpoint")))
        signed_by(str(since.get("checkpoint")), [key])
    except NoteError as error:
        raise EvidenceError(1, f"the older checkpoint: {error}") from error
    proof = _hashes(1, since.get("proof"))
    if not is_consistent(older.size, older.root, checkpoint.size, checkpoint.root, proof):
        raise EvidenceError(1, f"the log of checkpoint {checkpoint.number} does not begin as checkpoint {older.number}")
    return older


def _entry(number: int, row: dict[str, Any], checkpoint: Statement, whole: Tree | None, last: int) -> int:
    index, entry = row.get("index"), row.get("entry")
    if not isinstance(index, int) or not isinstance(entry, str):
        raise EvidenceError(number, "it is no entry with its place in the log")
    if index <= last:
        raise EvidenceError(number, f"leaf {index} comes after leaf {last}: entries were exchanged or repeated")
    leaf = leaf_hash(entry.encode())
    if whole is not None:
        if index != whole.size:
            raise EvidenceError(number, f"leaf {whole.size} is missing")
        whole.append(leaf)
    elif root_by_inclusion(leaf, index, checkpoint.size, _hashes(number, row.get("proof"))) != checkpoint.root:
        raise EvidenceError(number, f"{_named(entry)} is not what was sealed at leaf {index}")
    return index


def _named(entry: str) -> str:
    try:
        return f"entry {json.loads(entry)['id']}"
    except (ValueError, KeyError, TypeError):
        return "the entry"


def _hashes(number: int, proof: object) -> list[bytes]:
    try:
        return [bytes.fromhex(node) for node in proof] if isinstance(proof, list) else []
    except (TypeError, ValueError) as error:
        raise EvidenceError(number, "its proof is no list of hashes") from error


def _end(numbered: Iterator[tuple[int, dict[str, Any]]], number: int, row: dict[str, Any], entries: int) -> None:
    if row["end"] != entries:
        raise EvidenceError(number, f"{row['end']} entries were written, {entries} are here")
    if next(numbered, None) is not None:
        raise EvidenceError(number + 1, "something follows the end")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

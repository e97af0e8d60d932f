"""The fault table's rows, their modules, and what `script/test --help` says of them are the same."""

from __future__ import annotations

import re

import pytest

from tests.faults.rows import ROWS
from tests.processes import ROOT

pytestmark = pytest.mark.once

MODULES = {path.stem.removeprefix("test_"): path.read_text() for path in (ROOT / "tests" / "faults").glob("test_*.py")}


def test_every_row_is_a_module_and_every_module_a_row() -> None:
    assert MODULES.keys() == ROWS.keys()
    for row, text in MODULES.items():
        assert set(re.findall(r'mark\.fault\("(\w+)"', text)) == {row}


def test_the_help_names_every_row() -> None:
    named = re.search(
        r"^#\s+(kill, .*?) \(tests/faults/rows\.py\)", (ROOT / "script" / "test").read_text(), re.MULTILINE
    )
    assert named
    assert named[1].split(", ") == list(ROWS)

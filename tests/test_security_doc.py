"""docs/security.md names only tests that there are, and says of every item which, or that there is none."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.once
TEXT = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| \d+\.\d+\.\d+", line)]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions_of(path)


def test_every_item_names_its_test_or_says_why_there_is_none() -> None:
    assert len(ROWS) > 60
    for row in ROWS:
        *_, how, test = [cell.strip() for cell in row.strip("|").split("|")]
        plainly = how.startswith(("not met", "in part", "[above]")) or test.endswith("by construction")
        assert "::" in test or plainly, row


def test_no_item_stands_twice() -> None:
    items = [item for row in ROWS for item in row.split("|")[1].replace(" ", "").split(",")]
    assert len(items) == len(set(items))


def test_what_it_leads_to_exists() -> None:
    for place in re.findall(r"\]\((?!http|#)([^)#]+)", TEXT):
        assert (ROOT / "docs" / place).resolve().exists(), place

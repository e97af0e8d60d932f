"""Imports run only in the direction of design §10: keeptrusts → gateways → usage → keys → access → audit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT: dict[str, set[str]] = {
    "audit": set(),
    "access": {"audit"},
    "keys": {"access", "audit"},
    "usage": {"keys", "access", "audit"},
    "gateways": {"usage", "keys", "access", "audit"},
    "webhooks": {"keys", "access", "audit"},
    "keeptrusts": {"webhooks", "gateways", "usage", "keys", "access", "audit"},
}


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, also inside functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides which house it comes from"
            names.add(node.module or "")
    return names


def source_files(house: str) -> list[Path]:
    # Migrations name each other by their order, which the relations by name decide.
    return [file for file in (ROOT / house).rglob("*.py") if "migrations" not in file.parts]


@pytest.mark.parametrize("house", MAY_IMPORT)
def test_a_house_imports_only_the_houses_below_it(house: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in source_files(house)
        for name in sorted(imports_of(file))
        if (other := name.partition(".")[0]) in MAY_IMPORT and other != house and other not in MAY_IMPORT[house]
    ]
    assert wrong == []


def test_the_console_never_imports_anything_from_a_file() -> None:
    """django-import-export is here to export; nothing anywhere may reach its import side."""
    wrong = [
        str(file.relative_to(ROOT))
        for house in MAY_IMPORT
        for file in source_files(house)
        if any(word in file.read_text() for word in ("ImportMixin", "ImportExportModelAdmin", "ImportExportMixin"))
    ]
    assert wrong == []


def test_only_the_lifecycle_writes_keys_and_versions() -> None:
    """One writer (design §3.1): elsewhere no `.save()`, `.update()` or `.create()` on the models of a key."""
    writers = {"keys/lifecycle.py", "keys/issuing.py"}
    calls = {"save", "update", "create", "delete", "bulk_create", "bulk_update", "get_or_create", "update_or_create"}
    wrong = []
    for house in MAY_IMPORT:
        for file in source_files(house):
            name = str(file.relative_to(ROOT))
            if name in writers:
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                chain = ast.unparse(node.func.value)
                touches = chain.startswith(("GatewayKey.objects", "KeyVersion.objects")) or chain == "key"
                if node.func.attr in calls and touches:
                    wrong.append(f"{name}:{node.lineno} {ast.unparse(node.func)}")
    assert wrong == []

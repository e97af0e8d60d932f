"""The check of what we run on finds what it is there for, and passes where nobody can be asked."""

from __future__ import annotations

import pytest

from tests.dependencies import FILES, ROOT, not_as_pinned, read_audit, unpinned

pytestmark = pytest.mark.once
HASH = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_with_its_hashes_and_no_file_names_an_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert list(unpinned(text)) == []
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize(
    "line",
    [
        "django>=5.2",
        "django==5.2.1",
        "django==5.2.1 --hash=md5:" + "a" * 32,
        f"django==5.2.1 {HASH} --hash=sha1:" + "a" * 40,
        "django @ git+ssh://example.com/django",
        "--index-url https://pypi.example.com",
        "-e .",
    ],
)
def test_what_is_not_held_to_its_bytes_is_found(line: str) -> None:
    assert len(list(unpinned(f"# a comment\n{line}\n    # via -r requirements.in\n"))) == 1


def test_what_is_held_to_its_bytes_passes() -> None:
    text = f"django==5.2.1 \\\n    {HASH} \\\n    {HASH}\nuvloop==1 ; sys_platform != 'win32' \\\n    {HASH}\n"
    assert list(unpinned(text)) == []


def test_another_version_than_the_pinned_one_is_found() -> None:
    assert list(not_as_pinned((ROOT / "requirements.txt").read_text())) == []
    found = list(not_as_pinned("pytest==0.1\nno-such-package==1\nno-such-package==1 ; sys_platform == 'win32'\n"))
    assert found[0].endswith("pinned is 0.1")
    assert found[1:] == ["no-such-package is not installed"]


def test_an_advisory_is_a_failure_and_silence_is_said() -> None:
    flaw = {"id": "PYSEC-2026-1", "fix_versions": ["2"], "aliases": [], "description": ""}
    packages = [
        {"name": "a", "version": "1", "vulns": [flaw]},
        {"name": "b", "version": "1", "vulns": [{**flaw, "fix_versions": []}]},
        {"name": "c", "version": "1", "vulns": []},
        {"name": "d", "skip_reason": "not on PyPI"},
    ]
    found, note = read_audit({"dependencies": packages})
    assert found == ["a 1 has PYSEC-2026-1, fixed in 2", "b 1 has PYSEC-2026-1, not fixed yet"]
    assert note == "3 of 4 packages were looked up, 2 advisories concern them."
    assert read_audit({"dependencies": packages[3:]}) == (
        [],
        "the advisories of 1 packages cannot be reached from here, nothing was asked.",
    )

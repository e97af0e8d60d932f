"""What we run on: pinned to the byte, installed as pinned, and without known vulnerabilities as far as can be asked.

    python -m tests.dependencies

pip-audit asks the advisories that PyPI publishes. Where they cannot be reached, that is said and is no failure: the
hashes still hold every file to what was pinned.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FILES: Final = ("requirements.txt", "requirements-dev.txt", "deploy/gateways/litellm/requirements.txt")
_PIN: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(;[^\\]*)?((?:\s*\\?\s*--hash=\S+)*)"
)
_HASH: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|\\|$)")
SECONDS: Final = 90


def main() -> int:
    """Print what is wrong, and what could not be asked; return the exit status."""
    wrong = [f"{name}: {why}" for name in FILES for why in unpinned((ROOT / name).read_text())]
    wrong += [f"installed: {why}" for why in not_as_pinned((ROOT / "requirements.txt").read_text())]
    for name in FILES[:2]:
        found, note = vulnerabilities(ROOT / name)
        wrong += [f"{name}: {why}" for why in found]
        print(f"{name}: {note}")
    print("\n".join(wrong) or "Every package is pinned, has its hashes, and is installed as pinned.")
    return int(bool(wrong))


def unpinned(text: str) -> Iterator[str]:
    """Yield what stands in a compiled file of requirements and is no exact version with its SHA-256."""
    for line in _logical_lines(text):
        found = _PIN.fullmatch(line)
        if found is None:
            yield f"this is no pinned package: {line[:80]}"
        elif not _HASH.search(line) or len(_HASH.findall(line)) != line.count("--hash="):
            yield f"{found[1]} has no SHA-256 to hold it to"


def not_as_pinned(text: str) -> Iterator[str]:
    """Yield the packages that are installed in another version than the pinned one; one that is absent may be."""
    for line in _logical_lines(text):
        if (found := _PIN.fullmatch(line)) and not found[3]:  # a marker may mean another system
            try:
                installed = version(found[1])
            except PackageNotFoundError:
                yield f"{found[1]} is not installed"
                continue
            if installed != found[2]:
                yield f"{found[1]} is {installed}, and pinned is {found[2]}"


def vulnerabilities(path: Path) -> tuple[list[str], str]:
    """Return what pip-audit knows of these packages, and in a sentence how much it was able to ask."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "10", "--requirement", str(path)]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
        return read_audit(json.loads(ended.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return [], "the advisories cannot be reached from here, nothing was asked."


def read_audit(answer: dict[str, Any]) -> tuple[list[str], str]:
    """Return what an answer of pip-audit says is wrong, and how much it was able to ask."""
    packages = answer["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return [], f"the advisories of {len(packages)} packages cannot be reached from here, nothing was asked."
    found = [
        f"{package['name']} {package['version']} has {flaw['id']}"
        + (f", fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else ", not fixed yet")
        for package in asked
        for flaw in package["vulns"]
    ]
    return found, f"{len(asked)} of {len(packages)} packages were looked up, {len(found)} advisories concern them."


def _logical_lines(text: str) -> Iterator[str]:
    joined = re.sub(r"[ \t]*\\\n[ \t]*", " ", text)
    for line in joined.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


if __name__ == "__main__":
    sys.exit(main())

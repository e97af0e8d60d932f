"""script/bootstrap.sh: which Python it takes, and when it installs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, clean_environment

pytestmark = pytest.mark.once

# What a pyenv shim does where no version is chosen.
BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
# Runs what it is given in a Python that says it is 3.11.
OLD_PYTHON = f"""#!/bin/sh
shift
exec {shlex.quote(sys.executable)} -c "import sys; sys.version_info = (3, 11, 7, 'final', 0)
$@"
"""
GOOD_PYTHON = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def bootstrap(call: str, root: Path, home: Path, path: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Source the script in `root` and call one of its functions, on a machine with this home and this PATH."""
    return subprocess.run(
        ["/bin/sh", "-euc", f". script/bootstrap.sh; {call}"],
        cwd=root,
        env=clean_environment(HOME=str(home), PATH=path, **more),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def found(home: Path, path: Path, **more: str) -> str:
    result = bootstrap('find_python; echo "$python"', ROOT, home, str(path), **more)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_broken_shim_and_an_old_python_are_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.12", BROKEN_SHIM)
    program(tmp_path / "bin/python3", OLD_PYTHON)
    program(tmp_path / "bin/python", GOOD_PYTHON)
    assert found(tmp_path, tmp_path / "bin") == "python"


def test_a_pyenv_version_serves_where_the_path_has_none(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3", OLD_PYTHON)
    program(tmp_path / ".pyenv/versions/3.11.7/bin/python", OLD_PYTHON)
    wanted = program(tmp_path / ".pyenv/versions/3.12.1/bin/python", GOOD_PYTHON)
    assert found(tmp_path, tmp_path / "bin") == str(wanted)


def test_uv_is_asked_last(tmp_path: Path) -> None:
    wanted = program(tmp_path / "elsewhere/python3.13", GOOD_PYTHON)
    program(tmp_path / "bin/uv", f'#!/bin/sh\n[ "$1 $2" = "python find" ] && echo {shlex.quote(str(wanted))}\n')
    assert found(tmp_path, tmp_path / "bin") == str(wanted)
    program(tmp_path / "bin/python3", GOOD_PYTHON)
    assert found(tmp_path, tmp_path / "bin") == "python3"


def test_uv_fetches_one_where_it_knows_none(tmp_path: Path) -> None:
    wanted = program(tmp_path / "elsewhere/python3.13", GOOD_PYTHON)
    program(
        tmp_path / "bin/uv",
        f"""#!/bin/sh
        case "$1 $2" in
        "python install") : >{shlex.quote(str(tmp_path))}/installed ;;
        "python find") [ -f {shlex.quote(str(tmp_path))}/installed ] && echo {shlex.quote(str(wanted))} ;;
        esac""",
    )
    assert found(tmp_path, tmp_path / "bin").splitlines()[-1] == str(wanted)


def test_the_python_that_the_user_names_comes_first(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.13", GOOD_PYTHON)
    wanted = program(tmp_path / "mine/python", GOOD_PYTHON)
    assert found(tmp_path, tmp_path / "bin", KEEPTRUSTS_PYTHON=str(wanted)) == str(wanted)


def test_without_any_python_the_message_says_what_to_do(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3", OLD_PYTHON)
    result = bootstrap("find_python", ROOT, tmp_path, str(tmp_path / "bin"))
    assert result.returncode == 1
    assert "needs Python 3.12 or newer" in result.stderr
    assert "KEEPTRUSTS_PYTHON=" in result.stderr
    assert result.stdout == ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs no package at all."""
    root = tmp_path / "checkout"
    program(root / "script/bootstrap.sh", (ROOT / "script/bootstrap.sh").read_text())
    for name in ("requirements.txt", "requirements-dev.txt"):
        (root / name).write_text("# nothing\n")
    return root


def test_the_environment_is_made_once_and_installed_again_only_when_requirements_change(checkout: Path) -> None:
    def ensure(name: str = "requirements.txt") -> str:
        call = f"ensure_environment {name}"
        result = bootstrap(call, checkout, checkout, os.environ["PATH"], KEEPTRUSTS_PYTHON=sys.executable)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    first = ensure()
    assert "Making the virtual environment" in first
    assert "Installing" in first
    assert ensure() == ""
    assert "Installing 0 packages from requirements-dev.txt" in ensure("requirements-dev.txt")
    assert ensure("requirements-dev.txt") == ensure() == ""
    (checkout / "requirements.txt").write_text("# still nothing, in other words\n")
    again = ensure()
    assert "Installing" in again
    assert "Making" not in again


def test_a_package_that_cannot_be_installed_is_an_error_and_is_tried_again(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text(f"{checkout}/no-such-package\n")
    for _ in range(2):
        result = bootstrap(
            "ensure_environment requirements.txt",
            *(checkout, checkout, os.environ["PATH"]),
            KEEPTRUSTS_PYTHON=sys.executable,
        )
        assert result.returncode == 1
        assert "could not be installed" in result.stderr
        assert "no-such-package" in result.stderr


def test_a_virtual_environment_whose_python_is_gone_is_made_anew(checkout: Path) -> None:
    program(checkout / ".venv/bin/python", BROKEN_SHIM)
    result = bootstrap(
        "ensure_environment requirements.txt",
        *(checkout, checkout, os.environ["PATH"]),
        KEEPTRUSTS_PYTHON=sys.executable,
    )
    assert result.returncode == 0, result.stderr
    assert "Making the virtual environment" in result.stdout

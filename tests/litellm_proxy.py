"""LiteLLM with our configuration, in an environment of its own that is made once for each pinned version.

It is large (740 MB), so it lies in the user's cache, beside nothing of ours: LiteLLM and Keeptrusts pin other versions.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import yaml

from tests.processes import ROOT

FOLDER = ROOT / "deploy" / "gateways" / "litellm"
REQUIREMENTS = FOLDER / "requirements.txt"


class NotInstallable(RuntimeError):
    """pip could not install LiteLLM; its last words are in the message."""


def litellm_program() -> Path:
    """Return LiteLLM's command, installed if need be (a minute or two). Errors: NotInstallable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keeptrusts"
    cache.mkdir(parents=True, exist_ok=True)
    pinned = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"litellm-{pinned}"
    # Two runs beside each other must not both make it.
    with (cache / f"litellm-{pinned}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if not complete.exists():
            _install(folder)
            complete.touch()
    return folder / "bin" / "litellm"


def _install(folder: Path) -> None:
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-r", str(REQUIREMENTS)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstallable(f"LiteLLM could not be installed:\n{done.stderr[-2000:]}")


def write_configuration(folder: Path, models: dict[str, dict[str, Any]], *, callback: Path) -> Path:
    """Put our configuration, with other models and one callback more, and our module into the folder."""
    configuration = yaml.safe_load((FOLDER / "config.yaml").read_text())
    configuration["model_list"] = [{"model_name": name, "litellm_params": model} for name, model in models.items()]
    # A model whose provider fails, as it does here on purpose, would be left alone for a while.
    configuration["router_settings"] = {"disable_cooldowns": True}
    configuration["litellm_settings"]["callbacks"].append(f"{callback.stem}.everything")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(configuration))
    for module in (FOLDER / "keeptrusts_litellm.py", callback):
        (folder / module.name).symlink_to(module)
    return path

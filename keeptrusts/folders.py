"""Folders that belong to the installation alone."""

from __future__ import annotations

from pathlib import Path


def private_folder(path: Path) -> Path:
    """Create the folder, and whatever is missing above it, readable by the owner alone; return it."""
    # Path.mkdir(parents=True) gives the mode to the last folder only.
    for folder in (*reversed(path.parents), path):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path

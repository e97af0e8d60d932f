"""What the settings need before Django can be asked: the embedded installation's own secret."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def embedded_secret(data_dir: Path) -> str:
    """Return the secret of an embedded installation, made once and kept readable by its owner alone."""
    path = data_dir / "secret_key"
    try:
        return path.read_text()
    except FileNotFoundError:
        pass
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = data_dir / f".secret_key.{os.getpid()}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(50))
    # link(2) never replaces: of two processes that start together, both go on with the first one's secret.
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()

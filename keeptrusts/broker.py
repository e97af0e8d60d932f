"""The embedded installation's message broker: a folder.

Kombu has such a transport, whose reader may take a message that its writer has created but not yet filled (which ends
the worker), and which moves every message through the world's temporary folder on its way. Here a message appears by
one rename, complete, and never leaves the data directory.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any, Final
from urllib.parse import urlsplit

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

from keeptrusts.folders import private_folder

logger = logging.getLogger(__name__)

SCHEME = "folder"
# The host means nothing; without one Kombu says so at every start.
URL = f"{SCHEME}://localhost"
# Seconds, within which a server must take a connection.
PATIENCE: Final = 2.0
REDIS_PORT: Final = 6379


class Channel(filesystem.Channel):
    """Messages are files, named so that they sort by age."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:  # type: ignore[override]  # stubs disagree
        folder = Path(self.data_folder_out)
        name = f"{time_ns():020}_{uuid.uuid4()}.{queue}.msg"
        draft = folder / f".{name}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(dumps(message))
        draft.rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.startswith(".") or name.partition(".")[2] != f"{queue}.msg":
                continue
            claimed = folder / f".{name}"
            try:
                (folder / name).rename(claimed)
            except FileNotFoundError:
                continue  # another worker was faster
            content = claimed.read_text()
            claimed.unlink()
            try:
                return loads(content)
            except ValueError:
                # A machine that lost its power may leave an empty file. What it asked for stands in the database.
                logger.warning("Dropped an unreadable message of queue %s.", queue)
        raise Empty


class Transport(filesystem.Transport):
    Channel = Channel


def register() -> None:
    """Make `folder://` a broker address."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def answers(redis_url: str) -> bool:
    """Say whether messages can be sent and fetched now: a folder ("") always, a Redis that takes a connection."""
    if not redis_url:
        return True
    address = urlsplit(redis_url)
    try:
        socket.create_connection((address.hostname or "localhost", address.port or REDIS_PORT), PATIENCE).close()
    except OSError:
        return False
    return True


def prepare_folders(options: dict[str, Any]) -> None:
    """Create what the transport options name, readable by the owner alone."""
    for option in ("data_folder_in", "data_folder_out", "control_folder"):
        if option in options:
            private_folder(Path(options[option]))

"""The application, for a test that kills it in between: what it has done is committed, and nobody is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keeptrusts.asgi import Receive, Scope, Send
from keeptrusts.asgi import application as whole

# In the data directory: while the first is there, answers to a POST are held back; the second tells that one is.
ARMED, REACHED = "stall", "stalled"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    folder = Path(os.environ["KEEPTRUSTS_DATA_DIR"])

    async def hold_back(message: Mapping[str, Any]) -> None:
        (folder / REACHED).touch()
        await asyncio.sleep(3_600)

    stalls = scope["type"] == "http" and scope["method"] == "POST" and (folder / ARMED).exists()
    await whole(scope, receive, hold_back if stalls else send)

"""How many exports run at once in one process: each keeps a connection to the database for as long as it is read."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from itertools import count
from typing import Final

from django.conf import settings
from rest_framework.exceptions import APIException

# For each member, so that nobody takes all of them.
MOST_OF_A_MEMBER: Final = 2
# An export that is read so slowly is broken off, seconds.
LONGEST: Final = 3_600
# When to come again, seconds.
PAUSE: Final = 10

_lock = threading.Lock()
_numbers = count()
# Who exports since when (monotonic), by a number for each export.
_running: dict[int, tuple[str, float]] = {}


class TooManyExports(APIException):
    """No export can begin now. wait: when to come again, seconds."""

    wait = PAUSE

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail, code)
        self.status_code = status


def take(member_id: str) -> int:
    """Let an export of this member begin; return the number to `give_back`. Errors: TooManyExports, 429 or 503."""
    with _lock:
        now = time.monotonic()
        # Broken off by then, whatever has become of it.
        for number in [number for number, (_, since) in _running.items() if now - since > LONGEST + PAUSE]:
            del _running[number]
        if sum(whose == member_id for whose, _ in _running.values()) >= MOST_OF_A_MEMBER:
            detail = f"{MOST_OF_A_MEMBER} exports of yours are still running. Wait for one of them to end, or stop it."
            raise TooManyExports(HTTPStatus.TOO_MANY_REQUESTS, "too_many_exports", detail)
        if len(_running) >= settings.KEEPTRUSTS_EXPORTS_AT_ONCE:
            detail = "As many exports as this server allows at once are running. Try again in a few seconds."
            raise TooManyExports(HTTPStatus.SERVICE_UNAVAILABLE, "exports_busy", detail)
        number = next(_numbers)
        _running[number] = (member_id, now)
        return number


def give_back(number: int) -> None:
    """Let another export begin in the place of this one; once is enough, twice does no harm."""
    with _lock:
        _running.pop(number, None)

"""How events get to the console: in batches, again and again, until it says that it has them."""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from gateways.shipping.lines import Event
from gateways.shipping.stopping import Stop

logger = logging.getLogger("keeptrusts.shipping")

PATH = "/gateway/v1/usage"
# Seconds.
ANSWER_WITHIN = 30.0
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0

# What an operator must put right; it is tried again all the same, because then it may have been.
EXPLAINED: dict[int, str] = {
    403: "The console does not accept the gateway token",
    404: "There is no gateway API at this address; is --console right?",
    409: "The console counts this gateway's requests when it asks: set its usage source to “report”",
    413: "A single event is too large for whatever stands before the console",
}


class NotTaken(Exception):
    """The console did not say that it has the events. retry_after: seconds, as it asked for."""

    def __init__(self, reason: str, *, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


@dataclass
class Receipt:
    """The console's answer: what became of each event."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]


class Console:
    """Posts events, and keeps count of what became of them."""

    def __init__(
        self, address: str, token: Callable[[], str], *, stop: Stop, counts: Counter[str], rejects: Path | None
    ) -> None:
        """token: is asked each time, because it may have been rotated. Errors: ValueError for what is no address."""
        url = urlsplit(address)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise ValueError(f"{address} is no http or https address of a console")
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(url.hostname, url.port, timeout=ANSWER_WITHIN)
        self._path = url.path.rstrip("/") + PATH
        self._token, self._stop, self._counts, self._rejects = token, stop, counts, rejects
        self._most: int | None = None

    def send(self, events: Sequence[Event]) -> bool:
        """Return True when the console has answered for each of them; False if it is time to stop before that."""
        rest, failures = list(events), 0
        while rest:
            batch = rest[: self._most]
            try:
                self._settle(batch, self._post(batch))
            except NotTaken as error:
                if error.status == 413 and len(batch) > 1:
                    # A proxy's limit, and it will be the same next time.
                    self._most = len(batch) // 2
                    continue
                logger.error("%s. Trying again.", EXPLAINED.get(error.status, error))
                if self._stop.is_overdue:
                    return False
                self._stop.wait(_pause(failures, error.retry_after))
                failures += 1
            else:
                if failures:
                    logger.info("The console takes events again.")
                rest, failures = rest[len(batch) :], 0
        return True

    def close(self) -> None:
        self._connection.close()

    def _post(self, batch: Sequence[Event]) -> Receipt:
        body = b"\n".join(json.dumps(event, ensure_ascii=False).encode() for event in batch)
        try:
            headers = {"X-Keeptrusts-Gateway-Token": self._token(), "Content-Type": "application/x-ndjson"}
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._connection.close()
            raise NotTaken(f"The console cannot be asked: {error or type(error).__name__}") from error
        if answer.status != 200:
            # It may have answered before it had read all: what is left of that must not precede the next request.
            self._connection.close()
            retry_after = answer.getheader("Retry-After") or ""
            raise NotTaken(
                f"The console answered {answer.status}",
                status=answer.status,
                retry_after=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0,
            )
        return _receipt(content, len(batch))

    def _settle(self, batch: Sequence[Event], receipt: Receipt) -> None:
        self._counts["accepted"] += receipt.accepted
        self._counts["duplicates"] += receipt.duplicates
        self._counts["rejected"] += len(receipt.rejected)
        if receipt.rejected:
            self._keep([{**rejection, "event": batch[rejection["index"]]} for rejection in receipt.rejected])

    def _keep(self, rejected: list[dict[str, Any]]) -> None:
        """Write down what the console will never take, for somebody to look at."""
        for code, number in Counter(str(rejection["code"]) for rejection in rejected).items():
            logger.warning("The console rejected %d events: %s.", number, code)
        if self._rejects is None:
            return
        lines = "".join(json.dumps(rejection) + "\n" for rejection in rejected)
        try:
            with open(os.open(self._rejects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            logger.error("Rejected events cannot be written down: %s", error)


def _receipt(content: bytes, number: int) -> Receipt:
    """Return the console's answer for `number` events. Errors: NotTaken for anything else that answers with 200."""
    try:
        receipt = Receipt(**json.loads(content))
        indexes = {rejection["index"] for rejection in receipt.rejected}
        if receipt.accepted + receipt.duplicates + len(indexes) == number and indexes <= set(range(number)):
            return receipt
    except (ValueError, TypeError, KeyError):
        pass
    raise NotTaken("Something answers there that is not the console; is --console right?")


def _pause(failures: int, retry_after: float) -> float:
    """Return how long to wait: doubled each time, and never the same for two senders."""
    longest = min(FIRST_WAIT * 2 ** min(failures, 10), LONGEST_WAIT)
    return max(random.uniform(longest / 2, longest), min(retry_after, LONGEST_WAIT))  # noqa: S311 - no secret

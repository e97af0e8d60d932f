"""The lines of standard input. What was read and not sent when it ends is lost: nobody can read it again."""

from __future__ import annotations

import os
import secrets
import select
import sys

from gateways.shipping.following import MOST_BYTES, MOST_LINES, Line


class StandardInput:
    """ended: there is no more to be read; `take` may still have lines."""

    def __init__(self) -> None:
        self.input_at = sys.stdin.fileno()
        self.ended = self.has_more = False
        self._rest = b""
        self._run, self._offset = secrets.token_hex(16), 0

    def take(self) -> list[Line]:
        """Return the next whole lines, at most MOST_LINES; none if there are none now."""
        if self._rest.count(b"\n") < MOST_LINES:
            self._fill()
        *pieces, self._rest = self._rest.split(b"\n", MOST_LINES)
        if not pieces and self._rest and (self.ended or len(self._rest) >= MOST_BYTES):
            pieces, self._rest = [self._rest], b""
        self.has_more = b"\n" in self._rest
        lines = []
        for piece in pieces:
            lines.append(Line(piece, f"{self._run}-{self._offset}"))
            self._offset += len(piece) + 1
        return lines

    def settled(self) -> None:
        """Do nothing: there is no place to come back to."""

    def close(self) -> None:
        """Do nothing: it was open before."""

    def _fill(self) -> None:
        while len(self._rest) < MOST_BYTES and not self.ended and select.select([self.input_at], [], [], 0)[0]:
            more = os.read(self.input_at, MOST_BYTES)
            self.ended = not more
            self._rest += more

"""SIGTERM and SIGINT ask to stop; whoever waits, wakes."""

from __future__ import annotations

import os
import select
import signal
import time

# Seconds in which what is there already may still be sent.
DRAIN_WITHIN = 10.0


class Stop:
    """Made in the main thread; `requested` is true once a signal has come."""

    def __init__(self) -> None:
        self._requested_at: float | None = None
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        # A signal that comes just before `select` leaves a byte here, so that no sleep misses it.
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    @property
    def requested(self) -> bool:
        return self._requested_at is not None

    @property
    def is_overdue(self) -> bool:
        """Say whether it is time to stop, whatever is still to be sent."""
        return self._requested_at is not None and time.monotonic() > self._requested_at + DRAIN_WITHIN

    def wait(self, seconds: float, *, input_at: int | None = None) -> None:
        """Return after so long; earlier when a signal comes or when there is input."""
        if self.requested:
            # Who drains does not wait to be asked again.
            seconds = min(seconds, 0.2)
        ready = select.select([self._woken, *([] if input_at is None else [input_at])], [], [], seconds)[0]
        if self._woken in ready:
            os.read(self._woken, 1_024)

    def _request(self, number: int, frame: object) -> None:
        if self._requested_at is None:
            self._requested_at = time.monotonic()

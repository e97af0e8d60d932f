"""Several at once, each in a thread with a connection to the database of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from access.refusals import Conflict


def at_once[T](*verbs: Callable[[], T]) -> list[T | Conflict]:
    """Start all verbs at the same moment, each in a thread with its own connection; their results or Conflicts."""
    barrier = threading.Barrier(len(verbs))

    def run(verb: Callable[[], T]) -> T | Conflict:
        try:
            barrier.wait(timeout=30)
            return verb()
        except Conflict as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(verbs)) as pool:
        return [future.result() for future in [pool.submit(run, verb) for verb in verbs]]

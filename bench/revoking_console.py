"""A console that revokes what it is told to, and tells when the verb has returned: python -m bench.revoking_console.

On stdin the ids of keys, a line each; on stdout a JSON object for each. With BENCH_DIES_BEFORE_PUBLISH it is gone, as
by SIGKILL, as soon as the first revoke is committed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django

if TYPE_CHECKING:
    from gateways.announcements import Announcement
    from keys.narrowing import Narrowing


def main() -> None:
    django.setup()
    from django.db import DatabaseError, InterfaceError

    from audit.actor import Actor
    from gateways import enforcement
    from keys import lifecycle

    if os.environ.get("BENCH_DIES_BEFORE_PUBLISH"):
        enforcement._announce = _die
    actor = Actor.system("benchmark")
    _tell(ready=True)
    for line in sys.stdin:
        try:
            narrowing = lifecycle.revoke(actor=actor, key_id=UUID(line.strip())).narrowing
        except (DatabaseError, InterfaceError) as error:
            _tell(error=type(error).__name__)
            continue
        in_force: Any = narrowing.in_force if narrowing is not None else None
        _tell(
            returned_at=time.monotonic(),
            milliseconds=in_force.milliseconds,
            processes=in_force.processes,
            applied=in_force.applied,
        )


def _die(change: Narrowing) -> Announcement | None:
    os._exit(9)


def _tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()

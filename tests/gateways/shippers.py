"""The shipper as its users run it: a process in which nothing but the standard library can be imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.processes import ROOT, Watched, clean_environment, running


def shipping(
    format: str,
    console: str,
    token: str,
    log: Path,
    state: Path,
    *more: str,
    folder: Path = ROOT,
) -> AbstractContextManager[Watched]:
    """Run the shipper for the block. more: further options."""
    # -S: without site-packages.
    command = [sys.executable, "-S", "-m", "gateways.shipping", "--format", format, "--console", console]
    command += ["--state", str(state), *more, str(log)]
    return running(command, clean_environment(KEEPTRUSTS_GATEWAY_TOKEN=token), folder)


@contextmanager
def stopped_cleanly(shipper: AbstractContextManager[Watched]) -> Iterator[Watched]:
    """Run it for the block, and see that SIGTERM then stops it with status 0."""
    with shipper as watched:
        yield watched
        watched.process.send_signal(signal.SIGTERM)
        assert watched.ends() == 0, watched.output

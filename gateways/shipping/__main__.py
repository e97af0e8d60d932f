"""The command line of the shipper."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gateways.shipping import __doc__ as description
from gateways.shipping.following import Line, LogFile, is_rotation_of
from gateways.shipping.lines import FORMATS, BrokenLine, Event, read_line
from gateways.shipping.sending import Console
from gateways.shipping.standard_input import StandardInput
from gateways.shipping.stopping import Stop

logger = logging.getLogger("keeptrusts.shipping")

# Seconds: between two looks at a log; between two accounts of how it goes; between two messages that say the same.
LOOK_EVERY = 0.5
ACCOUNT_EVERY = 60.0
REPEAT_EVERY = 60.0
TOKEN = "KEEPTRUSTS_GATEWAY_TOKEN"  # noqa: S105 - its name


class Seldom(logging.Filter):
    """Lets the same message through once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, message = time.monotonic(), record.getMessage()
        self._said = {said: at for said, at in self._said.items() if at > now - REPEAT_EVERY}
        return self._said.setdefault(message, now) == now


class Shipper:
    """From the log to the console."""

    def __init__(self, options: argparse.Namespace, stop: Stop) -> None:
        """Errors: OSError, ValueError for options that cannot be."""
        self._facts_of = FORMATS[options.format]
        self._stop = stop
        self._counts: Counter[str] = Counter()
        self._accounted_at = time.monotonic() - ACCOUNT_EVERY
        self._console = Console(options.console, gateway_token, stop=stop, counts=self._counts, rejects=options.rejects)
        self._source: LogFile | StandardInput = (
            StandardInput() if options.log == "-" else LogFile(Path(options.log).absolute(), options.state)
        )

    def run(self) -> int:
        """Ship until standard input ends or somebody asks to stop; return the exit status."""
        source, stop, lost = self._source, self._stop, False
        while True:
            lines = source.take()
            if not lines and (source.ended or stop.requested):
                break
            if lines:
                if not self._console.send(self._events(lines)):
                    lost = isinstance(source, StandardInput)
                    break
                source.settled()
            self._account(every=ACCOUNT_EVERY)
            if stop.is_overdue:
                lost = isinstance(source, StandardInput) and source.has_more
                break
            if not source.has_more:
                # Meanwhile lines gather for the next batch.
                stop.wait(LOOK_EVERY, input_at=source.input_at)
        self._account(every=0)
        self._console.close()
        source.close()
        if lost:
            logger.error("Stopped before all of standard input was sent: the rest of it is lost.")
        return int(lost)

    def _events(self, lines: Sequence[Line]) -> list[Event]:
        events = []
        for line in lines:
            if not line.content.strip():
                continue
            try:
                event = read_line(line.content, self._facts_of, place=line.place)
            except BrokenLine:
                self._counts["broken"] += 1
                continue
            if event is None:
                self._counts["refused"] += 1
            else:
                events.append(event)
        return events

    def _account(self, *, every: float) -> None:
        now = time.monotonic()
        if now < self._accounted_at + every or not self._counts:
            return
        counts = self._counts
        logger.info(
            "Accepted %d, duplicates %d, rejected %d; lines of refused requests %d, broken lines %d.",
            *(counts[name] for name in ("accepted", "duplicates", "rejected", "refused", "broken")),
        )
        if counts["broken"]:
            logger.warning("Lines of another format than --format says were left out.")
        counts.clear()
        self._accounted_at = now


def gateway_token() -> str:
    """Return the token as the environment, or the file that it names, says now. Errors: OSError, ValueError."""
    file = os.environ.get(TOKEN + "_FILE")
    token = (Path(file).read_text() if file else os.environ.get(TOKEN, "")).strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError(f"Give the gateway's token in {TOKEN}, or in a file that {TOKEN}_FILE names.")
    return token


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 when it was stopped, 1 when lines of standard input were lost, 2 for wrong options."""
    parser, options = _read(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logger.addFilter(Seldom())
    try:
        gateway_token()
        shipper = Shipper(options, Stop())
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return shipper.run()


def _read(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python3 -m gateways.shipping",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--format", required=True, choices=sorted(FORMATS), help="whose access log it is")
    parser.add_argument("--console", required=True, metavar="URL", help="where the console is")
    parser.add_argument("--state", type=_path, metavar="FILE", help="where the place in the log is written down")
    parser.add_argument("--rejects", type=_path, metavar="FILE", help="where to keep what the console will never take")
    parser.add_argument("log", metavar="LOG", help="the access log; - for standard input")
    options = parser.parse_args(arguments)
    if (options.log == "-") != (options.state is None):
        parser.error("--state goes with a log file, and not with standard input.")
    for file in filter(None, (options.state, options.rejects)):
        if options.log != "-" and is_rotation_of(Path(options.log).absolute(), file):
            parser.error(f"{file} looks like a rotation of the log: choose another name.")
    return parser, options


def _path(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())

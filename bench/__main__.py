"""The benchmarks, by their names: `script/bench NAME`.

Each is a module of this package: its docstring says what is measured, `add_arguments` what it can be told, and `run`
measures, says what it does on stderr, and returns the figures; `show`, where it has one, prints them for people.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from types import ModuleType
from typing import Final

NAMES: Final[tuple[str, ...]] = ("audit", "authorize", "console", "export", "ingest", "memory", "revoke")


def main() -> int:
    """Run the benchmark that the command line names, print its figures, and return the exit status."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    named = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    benches = {name: importlib.import_module(f"bench.{name}") for name in NAMES}
    for name, bench in benches.items():
        _add(named.add_parser(name, description=bench.__doc__, help=_first_line(bench)), bench)
    options = parser.parse_args()
    figures: dict[str, object] = benches[options.name].run(options)
    if options.json:
        print(json.dumps(figures), flush=True)
    elif hasattr(benches[options.name], "show"):
        benches[options.name].show(figures)
    else:
        for name, value in figures.items():
            print(f"{name:>28}  {value:,}" if isinstance(value, int | float) else f"{name:>28}  {value}")
    return 0


def _add(parser: argparse.ArgumentParser, bench: ModuleType) -> None:
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, as the last line")
    bench.add_arguments(parser)


def _first_line(bench: ModuleType) -> str:
    return (bench.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    # The default action of SIGTERM would skip every `finally`, and with it the end of the servers.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())

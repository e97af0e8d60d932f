"""What leaves a process as its log: a line, or a JSON object, for each record, and no secret in any of them.

The one place is the handler of the root logger: whatever a library logs, as message, argument, extra or traceback, goes
through it as text, and only then is it searched. Nothing here needs Django, so that the web server's own process,
which loads none, writes the same (`keeptrusts/granian.json`).
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from audit.redaction import strike_out
from keeptrusts.request_ids import current_request_id

_UNCAUGHT: Final = logging.getLogger("uncaught")
FORMATS: Final = ("line", "json")
# What every record has; all else was given by `extra`.
_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
# What could draw on a terminal, or make one record look like two. Line breaks are dealt with apart.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _RedactingFormatter(logging.Formatter):
    """Puts a record together and strikes out, of the whole, what lets in."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            text = self.written(record)
        except Exception:
            # The default is to print message and arguments as they are, beside the log.
            record.msg, record.args = f"This could not be put into words: {record.msg!r} {record.args!r}", ()
            text = self.written(record)
        return strike_out(text)

    def written(self, record: logging.LogRecord) -> str:
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LineFormatter(_RedactingFormatter):
    """One line for people; what follows on it (a traceback, a message with line breaks) is indented."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def written(self, record: logging.LogRecord) -> str:
        text = super().written(record)
        if request_id := current_request_id():
            first, separator, rest = text.partition("\n")
            text = f"{first} [{request_id}]{separator}{rest}"
        text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
        # A record starts where a line does: nobody else's text can look like one.
        return text.replace("\n", "\n    ")


class JsonFormatter(_RedactingFormatter):
    """One JSON object on one line: time (UTC), level, logger, message, process, request_id, exception, and extras."""

    def written(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if request_id := current_request_id():
            facts["request_id"] = request_id
        if record.exc_info and record.exc_info[0]:
            facts["exception_type"] = record.exc_info[0].__qualname__
            facts["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            facts["exception"] = record.exc_text
        if record.stack_info:
            facts["stack"] = record.stack_info
        extras = {name: value for name, value in vars(record).items() if name not in _OWN and name not in facts}
        return json.dumps(facts | extras, default=repr, ensure_ascii=False, skipkeys=True)


class RedactingHandler(logging.StreamHandler[Any]):
    """Writes to stderr. A record that it cannot write is dropped, and never shown as it is."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: the default prints message and arguments to stderr, with whatever is in them."""


def chosen_format() -> str:
    """Return `line` or `json`: as KEEPTRUSTS_LOG_FORMAT says, else JSON where a database of one's own means production.

    Errors: ValueError for another word.
    """
    chosen = os.environ.get("KEEPTRUSTS_LOG_FORMAT") or ("json" if os.environ.get("DATABASE_URL") else "line")
    if chosen not in FORMATS:
        raise ValueError(f"KEEPTRUSTS_LOG_FORMAT must be line or json, not {chosen!r}.")
    return chosen


def formatter() -> logging.Formatter:
    """Return the formatter that the environment chooses."""
    return JsonFormatter() if chosen_format() == "json" else LineFormatter()


def logging_settings(level: str) -> dict[str, Any]:
    """Return Django's LOGGING: one handler, at the root, and no library that keeps one of its own."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": "keeptrusts.logs.formatter"}},
        "handlers": {"stderr": {"class": "keeptrusts.logs.RedactingHandler", "formatter": "ours"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # To name a logger without handlers takes away those that it had.
            **{name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")},
            **{name: {"handlers": [], "propagate": True} for name in ("django", "django.server", "py.warnings")},
            **{
                name: {"level": "WARNING"}
                for name in ("axes", "celery.app.trace", "celery.beat", "celery.worker.strategy")
            },
        },
    }


def configure(settings: dict[str, Any]) -> None:
    """Set up logging (Django's LOGGING_CONFIG), and lead what Python itself would print to stderr into the log."""
    logging.config.dictConfig(settings)
    logging.captureWarnings(capture=True)
    # A test runner, or a debugger, that has put its own there keeps it.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        _UNCAUGHT.critical("This ended the process.", exc_info=(kind, error, traceback))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else "unknown"
        _UNCAUGHT.error("This ended the thread %s.", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def _unraisable(args: Any) -> None:
    exc_info = (args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value is not None else None
    _UNCAUGHT.error("%s: %r", args.err_msg or "Exception ignored in", args.object, exc_info=exc_info)

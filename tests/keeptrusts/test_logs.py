"""No log, whoever writes it and however, holds what lets somebody in."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from access import tokens
from access.tokens import TokenKind
from audit.redaction import strike_out
from keeptrusts.logs import JsonFormatter, LineFormatter, RedactingHandler, chosen_format, logging_settings
from keeptrusts.request_ids import enter_request
from tests.processes import ROOT, clean_environment, running

pytestmark = pytest.mark.once


@pytest.fixture(params=[LineFormatter, JsonFormatter], ids=["line", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[tuple[logging.Logger, StringIO]]:
    """A logger of its own, written by our handler."""
    stream = StringIO()
    handler = RedactingHandler(stream)
    handler.setFormatter(request.param())
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)
    logger.propagate = True


def canary(kind: TokenKind = TokenKind.GATEWAY_KEY) -> str:
    return tokens.generate(kind)


def raised(value: str) -> BaseException:
    """Return an error that has the value in its message, its cause, its context and its notes."""
    try:
        try:
            try:
                raise KeyError(value)
            except KeyError as inner:
                raise ValueError(f"no {value}") from inner
        except ValueError:
            raise ExceptionGroup(f"some {value}", [RuntimeError(value)])  # noqa: B904  # the context is what is meant
    except ExceptionGroup as error:
        error.add_note(f"noted {value}")
        return error


def test_no_way_into_a_record_gets_a_value_through(log: tuple[logging.Logger, StringIO]) -> None:
    logger, stream = log
    value = canary()
    logger.warning("message %s", value)
    logger.warning(f"message {value}")  # as libraries do
    logger.warning("%(key)s", {"key": value})
    logger.warning("bytes %r %r", value.encode(), [{"nested": (value,)}])
    logger.warning("cut %s", repr(value)[:20])
    logger.warning("encoded %s", value.replace("_", "%5F"))
    logger.warning("extra", extra={"facts": {"value": value}, "raw": value, value: 1})
    logger.error("error", exc_info=raised(value))
    logger.error("stack", stack_info=True, extra={"stack": value})
    logger.warning("too few %s %s", value)
    logger.warning(value, "too many")
    written = stream.getvalue()
    assert written.count("\n") >= 11
    assert value[10:18] not in written
    assert value[:10] + "…" in written


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic Z2F0ZXdheTprdF9ndF9hYmNkZWZnaGlqa2xtbm9w",
        "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.abcdef",
        "postgresql://keeptrusts:correct-horse@database/keys",
        "Cookie: keeptrusts_session=abcdefghijklmnop0123456789; x=y",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "KT_GK_ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
    ],
)
def test_credentials_of_other_shapes_go_too(text: str) -> None:
    struck = strike_out(f"before {text} after")
    assert "…" in struck
    assert struck.startswith("before ")
    assert struck.endswith(" after")
    for secret in (
        "Z2F0ZXdheTpr",
        "eyJhbGciOiJSUzI1NiJ9",
        "correct-horse",
        "abcdefghijklmnop",
        "C2FVsBQIhr",
        "EFGHIJKL",
    ):
        assert secret not in struck


def test_what_lets_nobody_in_stays() -> None:
    text = "kt_gk_a1b2… rotated for https://keys.example.com/admin/ by ada; the basic idea: kt_ is a prefix"
    assert strike_out(text) == text


def test_json_is_one_object_a_record_that_machines_read() -> None:
    record = logging.LogRecord("tests", logging.ERROR, __file__, 1, "two\nlines %s", ("and more",), None)
    record.exc_info = (ValueError, ValueError("why"), None)
    record.status_code = 500
    record.request = object()
    text = JsonFormatter().format(record)
    assert "\n" not in text
    facts = json.loads(text)
    assert facts["message"] == "two\nlines and more"
    assert (facts["level"], facts["logger"], facts["status_code"]) == ("ERROR", "tests", 500)
    assert facts["exception_type"] == "ValueError"
    assert facts["time"].endswith("Z")


def test_no_text_of_others_looks_like_a_record_of_its_own() -> None:
    forged = "x\n2026-01-01T00:00:00.000Z INFO audit: all is well\r\x1b[2K\u2028y"
    lines = LineFormatter().format(logging.LogRecord("tests", 20, __file__, 1, forged, (), None)).split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("    ")
    assert "\r" not in lines[1]
    assert "\x1b" not in lines[1]


def test_a_record_says_during_which_request_it_was_written() -> None:
    import contextvars

    def written() -> tuple[str, str, str]:
        request_id = enter_request({"headers": []}, is_trusted=False)
        record = logging.LogRecord("tests", 20, __file__, 1, "said", (), None)
        return request_id, LineFormatter().format(record), json.loads(JsonFormatter().format(record))["request_id"]

    request_id, line, in_json = contextvars.copy_context().run(written)
    assert line.endswith(f"said [{request_id}]")
    assert in_json == request_id


def test_a_handler_that_cannot_write_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(StringIO):
        def write(self, text: str) -> int:
            raise OSError("disk full")

    handler = RedactingHandler(Full())
    handler.handle(logging.LogRecord("tests", 20, __file__, 1, canary(), (), None))
    assert capsys.readouterr().err == ""


def test_json_is_the_default_where_a_database_of_ones_own_means_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert chosen_format() == "line"
    monkeypatch.setenv("DATABASE_URL", "postgresql://x")
    assert chosen_format() == "json"
    monkeypatch.setenv("KEEPTRUSTS_LOG_FORMAT", "line")
    assert chosen_format() == "line"
    monkeypatch.setenv("KEEPTRUSTS_LOG_FORMAT", "xml")
    with pytest.raises(ValueError, match="must be line or json, not 'xml'"):
        chosen_format()


def test_no_logger_is_given_a_handler_but_the_root() -> None:
    settings = logging_settings("INFO")
    assert [name for name, logger in settings["loggers"].items() if logger.get("handlers")] == []
    assert settings["root"]["handlers"] == ["stderr"]


# --- real processes ---------------------------------------------------------------------------------------------------

# Does in a process of its own what would need one to go wrong in every way.
SCRIPT = textwrap.dedent(
    """
    import logging, sys, threading, warnings
    import django
    django.setup()
    value = sys.argv[1]
    from django.conf import settings
    from django.db import connection
    warnings.warn("warned of " + value)
    settings.DEBUG = True
    connection.force_debug_cursor = True
    logging.getLogger("django.db.backends").setLevel("DEBUG")
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [value])
    for name in ("_granian", "granian.access", "django.server", "celery.app.trace", "celery.redirected", "asyncio"):
        logging.getLogger(name).error("from " + name + ": %s", value)

    class Unraisable:
        def __del__(self):
            raise ValueError("unraisable " + value)

    def fail():
        local = value
        raise RuntimeError("thread " + local)

    Unraisable()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    from django.core.exceptions import ValidationError
    from django.test import RequestFactory
    from keeptrusts.debug_reports import RedactingReporter
    try:
        fail()
    except RuntimeError:
        request = RequestFactory().post("/?q=" + value, {"field": value}, headers={"authorization": "Bearer " + value})
        reporter = RedactingReporter(request, *sys.exc_info())
        print("debug page", len(reporter.get_traceback_html()), reporter.get_traceback_html())
        print("debug text", reporter.get_traceback_text())
    raise SystemError("uncaught " + value)
    """
)


@pytest.mark.parametrize("form", ["line", "json"])
def test_a_process_that_goes_wrong_in_every_way_says_so_without_the_value(tmp_path: Path, form: str) -> None:
    value = canary(TokenKind.ACCESS_KEY)
    environment = clean_environment(
        KEEPTRUSTS_DATA_DIR=str(tmp_path),
        KEEPTRUSTS_LOG_FORMAT=form,
        DJANGO_SETTINGS_MODULE="keeptrusts.settings",
        PYTHONPATH=str(ROOT),
        # The name of the process holds the value; what is meant here is what it writes.
        PYTHONWARNINGS="always",
    )
    with running([sys.executable, "-c", SCRIPT, value], environment) as process:
        assert process.ends(60) == 1
    said = process.output
    for event in ("warned of", "SELECT", "unraisable", "thread", "uncaught", "debug page", "debug text", "_granian"):
        assert event in said, event
    for name in ("granian.access", "django.server", "celery.app.trace", "celery.redirected", "asyncio"):
        assert f"from {name}: {value[:10]}…" in said, name
    assert value[10:20] not in said

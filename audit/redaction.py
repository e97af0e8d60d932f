"""What looks like one of our secrets, and how it is struck out wherever text leaves the process."""

from __future__ import annotations

import logging
import re

# design: "Token format". The prefix and four characters are the hint; the other 28 must not be shown again.
SECRET = re.compile(r"(kt_(?:gk|gt|ak)_[a-z0-9]{4})[a-z0-9]{28}(?![a-z0-9])")


def holds_secret(text: str) -> bool:
    """Say whether `text` holds anything of the shape of a key value, gateway token or access key."""
    return SECRET.search(text) is not None


def redact(text: str) -> str:
    """Return `text` with every secret cut down to its hint."""
    return SECRET.sub(r"\1…", text) if "kt_" in text else text


def redact_deep[T](value: T) -> T:
    """Return a copy of a JSON-like value with every string in it, names included, redacted."""
    if isinstance(value, str):
        return redact(value)  # type: ignore[return-value]  # a str for a str
    if isinstance(value, dict):
        return {redact_deep(name): redact_deep(item) for name, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return [redact_deep(item) for item in value]  # type: ignore[return-value]
    return value


class RedactingFormatter(logging.Formatter):
    """Formats a record, its arguments and its traceback with every secret cut down to its hint."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

"""What looks like one of our secrets, and how it is struck out wherever text leaves the process."""

from __future__ import annotations

import logging
import re

# design: "Token format". The prefix and four characters are the hint; the other 28 must not be shown again. Whatever
# runs on after them, as where a path was put together without a separator, does not make the value another one.
# The signing secrets of webhooks (Standard Webhooks) are of another shape.
SECRET = re.compile(r"(kt_(?:gk|gt|ak)_[a-z0-9]{4})[a-z0-9]{28,}|(whsec_[A-Za-z0-9+/]{4})[A-Za-z0-9+/=]{20,}")


def holds_secret(text: str) -> bool:
    """Say whether `text` holds anything of the shape of a key value, gateway token, access key or webhook secret."""
    return SECRET.search(text) is not None


def redact(text: str) -> str:
    """Return `text` with every secret cut down to its hint."""
    return SECRET.sub(r"\1\2…", text) if "kt_" in text or "whsec_" in text else text


class RedactingFormatter(logging.Formatter):
    """Formats a record, its arguments and its traceback with every secret cut down to its hint."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

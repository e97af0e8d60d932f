"""What looks like one of our secrets, and how it is struck out wherever text leaves the process."""

from __future__ import annotations

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


def strike_out(text: str) -> str:
    """Return `text`, which leaves the process as a log or as a report of an error, with nothing in it that lets in.

    Stricter than `redact`: what a library has cut off in the middle, or has percent-encoded, goes too, and so do
    credentials of other shapes (`Authorization` headers, passwords in addresses, cookies of sessions, signing secrets).
    """
    for shape, hint in _IN_LOGS:
        text = shape.sub(hint, text)
    return text


_IN_LOGS = (
    # More than a hint is too much, however much is left of the value.
    (re.compile(r"(kt(?:_|%5f)(?:gk|gt|ak)(?:_|%5f)[a-z0-9]{4})[a-z0-9]+", re.IGNORECASE), r"\1…"),
    (re.compile(r"\b(basic|bearer)(\s+)[a-z0-9+/=_~.-]{12,}", re.IGNORECASE), r"\1\2…"),
    (re.compile(r"(whsec_)[a-z0-9+/=]{8,}", re.IGNORECASE), r"\1…"),
    (re.compile(r"""(://[^\s/:@"'\\]*:)[^\s/@"'\\]+@"""), r"\1…@"),
    (re.compile(r"(keeptrusts_(?:session|csrf)=)[a-z0-9]+", re.IGNORECASE), r"\1…"),
)

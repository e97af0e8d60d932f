"""One id for each request: in its answer, in every line that is logged meanwhile, in its audit entries.

The data plane has its own, the decision id.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Any, Final

HEADER: Final = b"x-request-id"
# Where access.actors finds it for the audit log.
SCOPE_KEY: Final = "keeptrusts.request_id"
_SANE: Final = re.compile(rb"[A-Za-z0-9._:=+/@-]{8,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that is answered here; empty outside of one."""
    return _current.get()


def enter_request(scope: dict[str, Any], *, is_trusted: bool) -> str:
    """Return the id of this request and hold it for all that runs in its context.

    is_trusted: whether the caller is a proxy of ours, whose `X-Request-ID` is taken if it is one, sane (8 to 64
    characters of those that ids are made of) and no credential. Anybody else's would let them write into the log.
    """
    given = [value for name, value in scope["headers"] if name == HEADER] if is_trusted else []
    sane = len(given) == 1 and _SANE.fullmatch(given[0]) is not None and b"kt_" not in given[0]
    request_id = given[0].decode() if sane else secrets.token_hex(16)
    scope[SCOPE_KEY] = request_id
    _current.set(request_id)
    return request_id

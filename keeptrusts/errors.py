"""What people read when something does not work, in plain words; what machines read, as JSON.

Nothing of the cause is said: it is in the log, or it is none of the reader's business.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from access.errors import error_body, is_unavailable
from keeptrusts.request_ids import current_request_id


@dataclass(frozen=True, slots=True)
class Trouble:
    """One page. code: the same word that the management API uses."""

    status: int
    code: str
    title: str
    words: str


BAD_REQUEST = Trouble(
    400, "bad_request", "That request could not be read", "Go back and try again; if it came from a link, it is broken."
)
FORBIDDEN = Trouble(
    403,
    "permission_denied",
    "Your role does not allow this",
    "Nothing was changed. An Admin can do this for you, or change your role.",
)
NOT_FOUND = Trouble(
    404,
    "not_found",
    "There is nothing here",
    "The address is wrong, or it belongs to something that your role does not see.",
)
FAILED = Trouble(
    500,
    "server_error",
    "Something went wrong on our side",
    "Nothing more is known here; what happened is in the server's log. Try again in a moment.",
)
UNAVAILABLE = Trouble(
    503,
    "unavailable",
    "This cannot be done just now",
    "The database does not do its part. Nothing was changed. Try again in a moment.",
)
METHOD_NOT_ALLOWED = Trouble(
    405, "method_not_allowed", "This address is used in another way", "Go back to the page that you came from."
)
BODY_TOO_LARGE = Trouble(413, "body_too_large", "That is too much at once", "The body is too large.")
BODY_TOO_SLOW = Trouble(408, "body_too_slow", "That took too long", "The body did not arrive in time. Try again.")
STALE_FORM = Trouble(
    403,
    "csrf_failed",
    "This form is too old",
    "You have signed in or out since it was opened, or your browser keeps no cookies for this site. "
    "Nothing was changed. Go back, reload the page and send it again.",
)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, FORBIDDEN)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what nobody has caught; Django calls this while it is being handled."""
    if is_unavailable(sys.exception()):
        response = _answer(request, UNAVAILABLE)
        response["Retry-After"] = "1"
        return response
    return _answer(request, FAILED)


def method_not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    response = _answer(request, METHOD_NOT_ALLOWED)
    response["Allow"] = allowed
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(request, STALE_FORM)


def as_http(path: str, trouble: Trouble) -> tuple[str, bytes]:
    """Return content type and body of the answer at this path: JSON for the API, else a page.

    Where it is our fault, or nobody's, it names the request: an admin finds it in the log.
    """
    request_id = current_request_id() if trouble.status >= 500 else ""
    if path.startswith("/api/"):
        more: dict[str, Any] = {"request_id": request_id} if request_id else {}
        body = error_body(trouble.code, f"{trouble.title}. {trouble.words}", **more)
        return "application/json", json.dumps(body).encode()
    # Without the request: these pages need neither session nor database, which may be what is wrong.
    page = render_to_string("trouble.html", {"trouble": trouble, "request_id": request_id})
    return "text/html; charset=utf-8", page.encode()


def _answer(request: HttpRequest, trouble: Trouble) -> HttpResponse:
    content_type, body = as_http(request.path, trouble)
    response = HttpResponse(body, content_type=content_type, status=trouble.status)
    response["Cache-Control"] = "no-store"
    return response

"""What people read when something does not work, in plain words; what machines read, as JSON.

Nothing of the cause is said: it is in the log, or it is none of the reader's business.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from access.errors import is_unavailable


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
    "The database does not do its part",
    "It does not answer, or takes no changes now. What you asked for has not been done. Try again in a moment.",
)
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
    # Django calls this while it handles what was raised.
    if not is_unavailable(sys.exception()):
        return _answer(request, FAILED)
    response = _answer(request, UNAVAILABLE)
    response["Retry-After"] = "1"
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(request, STALE_FORM)


def _answer(request: HttpRequest, trouble: Trouble) -> HttpResponse:
    response: HttpResponse
    if request.path.startswith("/api/"):
        body: dict[str, Any] = {"code": trouble.code, "detail": f"{trouble.title}. {trouble.words}", "fields": {}}
        response = JsonResponse(body, status=trouble.status)
    else:
        # Without the request: these pages need neither session nor database, which may be what is wrong.
        page = render_to_string(f"{trouble.status}.html", {"trouble": trouble})
        response = HttpResponse(page, status=trouble.status)
    response["Cache-Control"] = "no-store"
    return response

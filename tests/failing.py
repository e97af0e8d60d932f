"""The real application with addresses that fail, as its users never see it: for what is said and logged then."""

from __future__ import annotations

import logging
from typing import Any, cast

from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.urls import get_resolver, path

from keeptrusts.asgi import application

__all__ = ["application"]


class Leaking(Exception):
    """Holds what it was given, in its message and in the frame that raised it."""


def _fail(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    value = request.headers["X-Canary"]
    in_a_local = {"value": value}
    try:
        raise Leaking(value)
    except Leaking as inner:
        raise Leaking(f"{in_a_local}") from inner


def _unavailable(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    raise OperationalError(f"could not connect: {request.headers['X-Canary']}")


def _logged(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    value = request.headers["X-Canary"]
    connection.force_debug_cursor = True
    logging.getLogger("django.db.backends").setLevel("DEBUG")
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [value])
    connection.force_debug_cursor = False
    logging.getLogger("tests").warning("headers %s of %r", dict(request.headers), request, extra={"value": value})
    return HttpResponse("logged")


for place in ("", "api/v1/"):
    cast(Any, get_resolver().urlconf_module).urlpatterns[:0] = [
        path(f"{place}fail/", _fail),
        path(f"{place}unavailable/", _unavailable),
        path(f"{place}logged/", _logged),
    ]

"""The console's door: a refused attempt is recorded after its transaction has unwound."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from access.actors import request_actor
from access.refusals import Forbidden, record_refusal


class RefusalMiddleware:
    """Records a Forbidden that ends a console request; the page itself is Django's 403."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if isinstance(exception, Forbidden):
            record_refusal(request_actor(request), exception)

"""The doors: whose zone times are shown in, that refused attempts are recorded, and where an API's caller stands."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from access.actors import request_actor
from access.models import Member
from access.refusals import Forbidden, record_refusal
from access.throttles import standing_of


class TimeZoneMiddleware:
    """Shows times of the console in the zone that the signed-in member has chosen. The API speaks UTC."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        member = request.user if request.path.startswith(reverse("admin:index")) else None
        with timezone.override(member.time_zone if isinstance(member, Member) else "UTC"):
            return self.get_response(request)


class RateLimitMiddleware:
    """Says in every answer of the API how many requests its caller has left (access/throttles.py)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if (standing := standing_of(request)) is not None and request.path.startswith("/api/"):
            standing.write(response)
        return response


class RefusalMiddleware:
    """Records a Forbidden that ends a console request; the page itself is Django's 403."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if isinstance(exception, Forbidden):
            record_refusal(request_actor(request), exception)

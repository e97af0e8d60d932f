"""What the views of the management API have in common."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar, Protocol

from django.conf import settings
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from access.schema import IN_FORCE_HEADER


class InForce(Protocol):
    def as_header(self) -> str: ...


class Change(Protocol):
    """in_force: None while it is not committed, and where nobody holds anything that it makes out of date."""

    @property
    def in_force(self) -> InForce | None: ...


class ApiViewSet[M: Model](GenericViewSet[M]):
    """Actions on one model. What is not an action is 405, DELETE always."""

    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "patch"]  # type: ignore[misc]  # never changed
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    # What a state may refuse each action with; the description says it (access/schema.py).
    conflicts: ClassVar[dict[str, tuple[str, ...]]] = {}
    # What the action has changed of what gateways decide by: where it is in force is known when it is committed.
    change: Change | None = None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        if not request.META.get("CONTENT_LENGTH") and request.method in {"POST", "PATCH"}:
            _measure(request)
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Without an action the method is not known here, and 405 is said first.
        if request.method in {"POST", "PATCH"} and self.action is not None:
            # What narrows a list means nothing to a change, and a caller may believe that it does.
            refuse_parameters(request)

    def before_acting(self) -> None:
        """Do what an action may not do in a transaction: `once` may put one around it (access/idempotency.py)."""

    def before_repeating(self) -> None:
        """Make sure, in the transaction around it, that what was done before holds when the same is answered again."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code == HTTPStatus.CREATED and isinstance(data := getattr(response, "data", None), dict):
            name = data.get(self.lookup_field, data.get("id"))
            if name is not None:
                response["Location"] = f"{request.path}{name}/"
        in_force = self.change.in_force if self.change is not None else None
        if in_force is not None and response.status_code < HTTPStatus.BAD_REQUEST:
            response[IN_FORCE_HEADER] = in_force.as_header()
        return response

    def body(self, serializer_class: type[BaseSerializer[Any]], **options: Any) -> dict[str, Any]:
        """Return the request's body as `serializer_class` reads it; ValidationError (400) for what it refuses."""
        serializer = serializer_class(data=self.request.data, context=self.get_serializer_context(), **options)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def shown(self, queryset: QuerySet[M]) -> list[dict[str, Any]]:
        """Return `queryset` as JSON."""
        return [dict(item) for item in self.get_serializer(queryset, many=True).data]


def refuse_parameters(request: Request) -> None:
    """Return if the address has no parameters; else ValidationError, 400, at the name of each."""
    error = ErrorDetail("There is no such parameter.", code="unknown_parameter")
    if request.query_params:
        raise ValidationError({name: [error] for name in request.query_params})


def _measure(request: HttpRequest) -> None:
    """Read a body that comes in chunks, without its length: DRF would take it for none."""
    body = request.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    request._body = body
    request.META["CONTENT_LENGTH"] = str(len(body))

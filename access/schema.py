"""What the OpenAPI description says beyond what the views say themselves: credentials, errors, retries."""

from __future__ import annotations

from http import HTTPMethod, HTTPStatus
from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

CSV: Final = {(200, "text/csv"): OpenApiTypes.STR}
IF_MATCH: Final = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of what the caller has read; 412 if it has changed."
)
IN_FORCE_HEADER: Final = "X-Keeptrusts-In-Force-On"
IN_FORCE_ON: Final = OpenApiParameter(
    IN_FORCE_HEADER,
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description=(
        "Which gateway processes decide by the change, where they hold keys in memory: `processes=4, applied=4, "
        "milliseconds=3`. What those hold that have not applied it is void by now."
    ),
)

_ERROR: Final = {
    "type": "object",
    "description": "Every error has this shape. An error of its own kind may say more.",
    "required": ["code", "detail", "fields"],
    "properties": {
        "code": {"type": "string", "description": "For machines; it does not change.", "examples": ["key_revoked"]},
        "detail": {"type": "string", "description": "For people."},
        "fields": {
            "type": "object",
            "description": "What is wrong with which field or parameter; `ids.3` is the fourth item of `ids`.",
            "additionalProperties": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
                },
            },
        },
    },
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "With it the change is made once, however often it is asked for within 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_ALWAYS: Final = {
    401: "No credential, or none that may be used.",
    403: "The role does not allow it.",
    429: "Too many requests; `Retry-After` says when to come again.",
    503: "The database does not answer; `Retry-After` says when to come again.",
}
_MALFORMED: Final = {400: "Something is wrong with the parameters or the body; `fields` says what."}
_MISSING: Final = {404: "It does not exist, or the caller may not see it."}
_BODY: Final = {
    413: "The body is too large.",
    415: "The body is not `application/json`.",
}
_CONFLICT: Final = {409: "The state does not allow it, or the change was made before (`already_processed`)."}
_REUSED: Final = {422: "The `Idempotency-Key` was used for another body."}
_CHANGED: Final = {412: "`If-Match` names another state than the present one."}


class AccessKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    target_class = "access.authentication.AccessKeyAuthentication"
    name = "accessKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An access key, `kt_ak_…`."}


class ConsoleSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the same
    target_class = "access.authentication.ConsoleSessionAuthentication"
    name = "consoleSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        description = "The console's session. Changes need the CSRF token in `X-CSRFToken`."
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME, "description": description}


def describe_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add to every operation the errors that it may answer with, and to every POST its Idempotency-Key."""
    result["components"].setdefault("schemas", {})["Error"] = _ERROR
    for operations in result["paths"].values():
        for method, operation in operations.items():
            parameters = operation.setdefault("parameters", [])
            if method.upper() == HTTPMethod.POST:
                parameters.append(_IDEMPOTENCY_KEY)
            for status, description in _errors_of(method.upper(), parameters).items():
                operation["responses"].setdefault(str(status), _answer(status, description))
    return result


def _errors_of(method: str, parameters: list[dict[str, Any]]) -> dict[int, str]:
    errors = dict(_ALWAYS)
    if any(parameter["in"] == "path" for parameter in parameters):
        errors |= _MISSING
    if method in {HTTPMethod.POST, HTTPMethod.PATCH}:
        errors |= _MALFORMED | _BODY | _CONFLICT
    if method == HTTPMethod.POST:
        errors |= _REUSED
    if any(parameter["name"] == "If-Match" for parameter in parameters):
        errors |= _CHANGED
    if any(parameter["in"] == "query" for parameter in parameters):
        errors |= _MALFORMED
        errors |= _MISSING if any(parameter["name"] == "page" for parameter in parameters) else {}
    return errors


def _answer(status: int, description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    answer: dict[str, Any] = {"description": description, "content": {"application/json": {"schema": schema}}}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if status == HTTPStatus.UNAUTHORIZED:
        answer["headers"] = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
    return answer

"""What the OpenAPI description says beyond what the views say: who may, credentials, errors, headers, retries.

All of it follows from method, path, parameters and the rule book, so that a new operation is described by being there.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPMethod
from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from access.examples import example_of
from access.limits import READING
from access.permissions import permission_of
from access.rules import PERMISSIONS, Role

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
        "code": {"type": "string", "description": "For machines; it does not change."},
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
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
    "example": "made-by-build-4711",
}


_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "An ETag that the caller has; 304 if nothing but figures of usage has changed since.",
    "schema": {"type": "string"},
}
# Which operations answer with the tag of one object, and what states refuse them: only while the description is made.
_TAGGED: Final = "x-tagged"
_CONFLICTS: Final = "x-conflicts"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that an operation may answer with. codes: those that there are, or (`more`) some of them."""

    status: int
    description: str
    codes: tuple[str, ...]
    more: bool = False


_ALWAYS: Final = (
    Problem(401, "No credential, or none that may be used.", ("not_authenticated", "invalid_token")),
    Problem(403, "The role, or what the access key is held to, does not allow it.", ("permission_denied",)),
    Problem(429, "Too many requests; `Retry-After` says when to come again.", ("throttled",)),
    Problem(503, "The database does not answer; `Retry-After` says when to come again.", ("unavailable",)),
)
_MALFORMED: Final = Problem(
    400,
    "Something is wrong with the parameters or the body; `fields` says what.",
    ("validation_error", "bad_request", "not_json", "not_an_object", "duplicate_name", "too_deep", "not_utf8"),
    more=True,
)
_MISSING: Final = Problem(404, "It does not exist, or the caller may not see it.", ("not_found",), more=True)
_BODY: Final = (
    Problem(413, "The body is too large.", ("body_too_large",)),
    Problem(415, "The body is not `application/json`.", ("unsupported_media_type",)),
)
# Of an operation with `Idempotency-Key`.
_ONCE: Final = ("already_processed", "in_progress")
_EXPORTS: Final = (
    Problem(429, "Too many requests, or exports of one's own; `Retry-After`.", ("throttled", "too_many_exports")),
    Problem(
        503, "The database does not answer, or all exports are taken; `Retry-After`.", ("unavailable", "exports_busy")
    ),
)
_REUSED: Final = Problem(422, "The `Idempotency-Key` was used for another body.", ("idempotency_key_reused",))
_CHANGED: Final = Problem(412, "`If-Match` names another state than the present one.", ("precondition_failed",))


def _header(description: str, example: Any, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}, "example": example}


# The headers of answers, by their names in `components`.
_HEADERS: Final = {
    "RateLimit": _header(
        "What is left: `r` requests, and in `t` seconds the next window begins (draft-ietf-httpapi-ratelimit-headers).",
        '"access_key";r=99;t=1',
    ),
    "RateLimit-Policy": _header("How many requests (`q`) in how many seconds (`w`).", '"access_key";q=100;w=1'),
    "Retry-After": _header("Seconds.", 1, "integer"),
    "WWW-Authenticate": _header("RFC 6750.", 'Bearer realm="keeptrusts"'),
    "ETag": _header("The state of the object, as `If-Match` takes it.", '"5d41402abc4b2a76b9719d911017c592"'),
    "Location": _header("The path of what was created.", "/api/v1/gateway-keys/6f1f2c1e-3c55-4d53-9b0e-5a1d8f6a7c10/"),
    "Content-Disposition": _header("The name of the file.", 'attachment; filename="gateway-keys.csv"'),
    "Idempotent-Replayed": _header("`true` where this is the answer to an earlier request with the same key.", "true"),
}


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


class ApiSchema(AutoSchema):
    """Says of each operation which roles may call it, from the rule book."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        permission = permission_of(self.view)
        if operation is not None and permission is not None:
            roles = [role for role in Role if role in PERMISSIONS.get(permission, frozenset())]
            operation["x-keeptrusts-roles"] = [role.value for role in roles]
            operation["x-keeptrusts-read-only"] = permission.partition(".")[2].startswith(READING)
            said = f"Roles: {', '.join(role.label for role in roles)}."
            operation["description"] = f"{operation.get('description', '')}\n\n{said}".strip()
        if operation is not None:
            self._say_what_is_sent_along(operation)
        return operation

    def _say_what_is_sent_along(self, operation: dict[str, Any]) -> None:
        """Add the headers that make a change once, and that compare states, where the view honours them."""
        action = getattr(self.view, "action", "")
        operation[_CONFLICTS] = list(getattr(self.view, "conflicts", {}).get(action, ()))
        parameters = operation.setdefault("parameters", [])
        if getattr(getattr(self.view, action or "", None), "acts_once", False):
            parameters.append(_IDEMPOTENCY_KEY)
        if hasattr(self.view, "tag_of"):
            takes_tag = _takes(operation, IF_MATCH.name)
            operation[_TAGGED] = takes_tag or action in {"retrieve", "create"}
            if action == "retrieve":
                parameters.append(_IF_NONE_MATCH)


def describe(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add to every operation the errors that it may answer with, its headers, and examples."""
    schemas = result["components"].setdefault("schemas", {})
    schemas["Error"] = _ERROR
    result["components"]["headers"] = _HEADERS
    for name, schema in schemas.items():
        if name.endswith("Request") and schema.get("type") == "object":
            # Bodies are taken by the letter (access/serializers.py).
            schema["additionalProperties"] = False
    for operations in result["paths"].values():
        for method, operation in operations.items():
            _describe(operation, method.upper(), schemas)
    return result


def _describe(operation: dict[str, Any], method: str, schemas: dict[str, Any]) -> None:
    tagged = operation.pop(_TAGGED, False)
    if _takes(operation, "If-None-Match"):
        operation["responses"]["304"] = {"description": "Nothing but figures of usage has changed."}
    for media in operation.get("requestBody", {}).get("content", {}).values():
        media.setdefault("example", example_of(media["schema"], schemas))
    for status, answer in operation["responses"].items():
        headers = ["RateLimit", "RateLimit-Policy"]
        headers += ["ETag"] if tagged else []
        headers += ["Location"] if status == "201" else []
        headers += ["Content-Disposition"] if "text/csv" in answer.get("content", {}) else []
        headers += ["Idempotent-Replayed"] if _takes(operation, "Idempotency-Key") else []
        _add_headers(answer, headers)
        answer["description"] = answer.get("description") or "Done."
        for kind, media in answer.get("content", {}).items():
            if kind == "application/json":
                media.setdefault("example", example_of(media["schema"], schemas))
    for problem in _problems(operation, method):
        operation["responses"].setdefault(str(problem.status), _answer(problem))


def _problems(operation: dict[str, Any], method: str) -> list[Problem]:
    parameters, conflicts = operation["parameters"], operation.pop(_CONFLICTS, [])
    kinds = {kind for answer in operation["responses"].values() for kind in answer.get("content", {})}
    is_export = bool(kinds & {"text/csv", "application/x-ndjson"})
    found = [*(_EXPORTS if is_export else ()), *_ALWAYS]
    if any(parameter["in"] == "path" or parameter["name"] == "page" for parameter in parameters):
        found.append(_MISSING)
    # Also where there is no parameter: one that is said nevertheless is refused.
    found.append(_MALFORMED)
    once = _takes(operation, "Idempotency-Key")
    if method in {HTTPMethod.POST, HTTPMethod.PATCH}:
        found += _BODY
    if once or method == HTTPMethod.PATCH:
        codes = (*conflicts, *(_ONCE if once else ()), "conflict")
        found.append(Problem(409, "The state does not allow it, or somebody else changes the same just now.", codes))
    elif conflicts:
        found.append(Problem(409, "The state does not allow it.", tuple(conflicts)))
    if once:
        found.append(_REUSED)
    if _takes(operation, "If-Match"):
        found.append(_CHANGED)
    return found


def _answer(problem: Problem) -> dict[str, Any]:
    code: dict[str, Any] = {"examples": list(problem.codes)} if problem.more else {"enum": list(problem.codes)}
    schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"code": code}}]}
    example = {"code": problem.codes[0], "detail": problem.description, "fields": {}}
    answer: dict[str, Any] = {
        "description": problem.description,
        "content": {"application/json": {"schema": schema, "example": example}},
    }
    headers = {401: ["WWW-Authenticate"], 412: ["ETag"], 429: ["Retry-After"], 503: ["Retry-After"]}
    _add_headers(answer, ["RateLimit", "RateLimit-Policy", *headers.get(problem.status, [])])
    return answer


def _add_headers(answer: dict[str, Any], names: list[str]) -> None:
    headers = answer.setdefault("headers", {})
    for name in names:
        headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})


def _takes(operation: dict[str, Any], name: str) -> bool:
    return any(parameter["name"] == name for parameter in operation.get("parameters", []))

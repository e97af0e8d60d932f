"""One shape for every error of the API: {"code", "detail", "fields"}. The code is for machines and stays."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import (
    NON_FIELD_ERRORS,
    ObjectDoesNotExist,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from django.http import Http404, JsonResponse
from django.http.request import UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

from access.actors import request_actor
from access.limits import NO_LIMITS
from access.preconditions import PreconditionFailed
from access.refusals import Conflict, Forbidden, record_refusal

log = logging.getLogger(__name__)
# PostgreSQL, appendix A: read_only_sql_transaction.
READ_ONLY: Final = "25006"

WHOLE: Final = "non_field_errors"

NOT_ALLOWED: Final = "Your role does not allow this."
NOT_FOUND: Final = "There is nothing here that you may see."

type Fields = dict[str, list[dict[str, str]]]


class ApiError(exceptions.APIException):
    """An error of its own status and code. more: what else the answer says; refusals: what it records as refused."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        refusals: Iterable[Forbidden | Conflict] = (),
        **more: Any,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.refusals = tuple(refusals)
        self.more = more


def error_body(code: str, detail: str, fields: Fields | None = None, **more: Any) -> dict[str, Any]:
    """Return the one shape. fields: what is wrong with which of them; `ids.3` is the fourth item of `ids`."""
    return {"code": code, "detail": detail, "fields": fields or {}, **more}


def item_error(error: Exception) -> dict[str, Any]:
    """Return, in the one shape, what one of many was refused for."""
    match error:
        case Conflict():
            return error_body(error.code, error.detail)
        case ValidationError():
            return _invalid_body(_django_fields(error))
        case PermissionDenied():
            return error_body("permission_denied", str(error) or NOT_ALLOWED)
        case _:
            return error_body("not_found", NOT_FOUND)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the answer for what a view raised; None, and with it a 500, only for what is our own fault.

    The view's transaction has unwound by now: a refused attempt is recorded here.
    """
    refusals = error.refusals if isinstance(error, ApiError) else (error,)
    for refusal in refusals:
        if isinstance(refusal, Forbidden | Conflict):
            record_refusal(request_actor(context["request"]), refusal)
    match error:
        case Conflict():
            return _answer(409, error.code, error.detail, **error.more)
        case PreconditionFailed():
            tag = f'"{error.tag}"'
            return _answer(412, "precondition_failed", str(error), {"ETag": tag}, etag=tag)
        case ValidationError():
            return _invalid(_django_fields(error))
        case exceptions.ValidationError():
            return _invalid(_drf_fields(error))
        case exceptions.APIException():
            return _api_exception(error)
        case Forbidden() if limits_hold(context["request"]):
            return _answer(
                403, "permission_denied", "Your role, or what this access key is held to, does not allow this."
            )
        case PermissionDenied():
            return _answer(403, "permission_denied", str(error) or NOT_ALLOWED)
        case Http404() | ObjectDoesNotExist():
            return _answer(404, "not_found", NOT_FOUND)
        case RequestDataTooBig():
            return _answer(413, "body_too_large", "The body is too large.")
        case SuspiciousOperation() | UnreadablePostError():
            return _answer(400, "bad_request", "The request is malformed.")
        case IntegrityError():
            return _answer(409, "conflict", "Somebody else has changed the same thing just now. Look, and try again.")
        case _ if is_unavailable(error):
            log.exception("The database did not do its part.")
            return _answer(503, "unavailable", "The database does not answer. Try again.", {"Retry-After": "1"})
    return None


def limits_hold(request: Any) -> bool:
    """Say whether the caller came with an access key that may do less than its owner."""
    return bool(getattr(request.user, "limits", NO_LIMITS).narrow)


def is_unavailable(error: BaseException | None) -> bool:
    """Say whether the database cannot do its part now: it is away, its disk is full, or it takes no writes."""
    if isinstance(error, InternalError):
        # What PostgreSQL calls an internal error may be one of ours; that it is read-only is not.
        return getattr(error.__cause__, "sqlstate", None) == READ_ONLY
    return isinstance(error, OperationalError | InterfaceError)


def _answer(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    return Response(error_body(code, detail, **more), status=status, headers=headers)


def _invalid(fields: Fields) -> Response:
    return Response(_invalid_body(fields), status=400)


def _invalid_body(fields: Fields) -> dict[str, Any]:
    errors = [(field, error["detail"]) for field, some in fields.items() for error in some]
    if len(errors) == 1:
        field, detail = errors[0]
        detail = detail if field == WHOLE else f"{field}: {detail}"
    else:
        detail = f"{len(errors)} things are wrong with {', '.join(list(fields)[:10])}."
    return error_body("validation_error", detail, fields)


def _api_exception(error: exceptions.APIException) -> Response:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    detail = error.detail
    if isinstance(error, exceptions.Throttled):
        body, headers = _too_many(error)
        return Response(body, status=429, headers=headers)
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(wait)
    code = (detail.code if isinstance(detail, exceptions.ErrorDetail) else None) or error.default_code
    return _answer(error.status_code, code, str(detail), headers, **getattr(error, "more", {}))


def throttled_answer(error: exceptions.Throttled) -> JsonResponse:
    """Return the answer to one request too many, for views that are not DRF's."""
    body, headers = _too_many(error)
    return JsonResponse(body, status=429, headers=headers)


def _too_many(error: exceptions.Throttled) -> tuple[dict[str, Any], dict[str, str]]:
    seconds = max(1, math.ceil(getattr(error, "wait", None) or 0))
    return error_body("throttled", f"Too many requests. Try again in {seconds} s."), {"Retry-After": str(seconds)}


def _django_fields(error: ValidationError) -> Fields:
    by_field = error.error_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.error_list}
    return {
        WHOLE if field == NON_FIELD_ERRORS else field: [
            {"code": each.code or "invalid", "detail": each.messages[0]} for each in errors
        ]
        for field, errors in by_field.items()
    }


def _drf_fields(error: exceptions.ValidationError) -> Fields:
    fields: Fields = {}
    for path, detail in _leaves(error.detail, ()):
        name = ".".join(path) or WHOLE
        fields.setdefault(name[:200], []).append({"code": detail.code or "invalid", "detail": str(detail)})
    return fields


def _leaves(detail: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], exceptions.ErrorDetail]]:
    """Yield every error in DRF's tree of lists and dictionaries, with the way to it."""
    if isinstance(detail, Mapping):
        for name, below in detail.items():
            yield from _leaves(below, path if name == WHOLE else (*path, str(name)))
    elif isinstance(detail, list):
        for number, item in enumerate(detail):
            yield from _leaves(item, path if isinstance(item, exceptions.ErrorDetail) else (*path, str(number)))
    else:
        yield path, detail

"""`Idempotency-Key`: a change asked for twice happens once (design §9).

The record is written in the transaction of the effect, so there is never one without the other. Only answers that
made an effect are remembered, for KEPT_FOR, for each member, method, path and key.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Concatenate, Final, cast

from django.db import connection, transaction
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from access.actors import caller
from access.errors import ApiError
from access.models import IdempotencyRecord
from access.viewsets import ApiViewSet
from audit import clock

HEADER: Final = "Idempotency-Key"
KEPT_FOR: Final = timedelta(hours=24)

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

type Handler[V, **P] = Callable[Concatenate[V, Request, P], Response]


class SecretResponse(Response):
    """An answer that shows a secret, this once: nobody may store it. again: what may be said of it later."""

    def __init__(self, data: dict[str, Any], *, again: dict[str, Any], status: int) -> None:
        # An encoding of its own keeps GZipMiddleware from squeezing a secret next to what a caller chose (BREACH).
        super().__init__(data, status=status, headers={"Cache-Control": "no-store", "Content-Encoding": "identity"})
        self.again = again


def once[V: GenericViewSet[Any], **P](handler: Handler[V, P]) -> Handler[V, P]:
    """Let `handler` act once for each Idempotency-Key; a repeat is answered as the first was.

    Where that answer showed a secret: 409 `already_processed`. The same key for another body: 422
    `idempotency_key_reused`. While the first still runs: 409 `in_progress`.
    """

    @functools.wraps(handler)
    def handle(view: V, request: Request, *args: P.args, **kwargs: P.kwargs) -> Response:
        if isinstance(view, ApiViewSet):
            view.before_acting()
        key = request.headers.get(HEADER)
        if key is None:
            return handler(view, request, *args, **kwargs)
        if _KEY.fullmatch(key) is None:
            error = f"{HEADER} is 1 to 255 visible ASCII characters."
            raise ValidationError({HEADER: [error]}, code="invalid")
        # What a verb raises unwinds this transaction too: a refused attempt leaves no record and may be repeated.
        with transaction.atomic():
            done = _act_once(request, key, lambda: handler(view, request, *args, **kwargs))
            if isinstance(done, IdempotencyRecord) and isinstance(view, ApiViewSet):
                view.before_repeating()
        # Only now: what is raised in there would undo what a repeat waits for.
        return _repeat(done, request) if isinstance(done, IdempotencyRecord) else done

    handle.acts_once = True  # type: ignore[attr-defined]  # for the description (access/schema.py)
    return cast("Handler[V, P]", handle)


def forget(*, batch: int = 10_000) -> int:
    """Delete every record that is older than KEPT_FOR, so many in a statement; return how many."""
    old = IdempotencyRecord.objects.filter(created_at__lt=clock.now() - KEPT_FOR).order_by("created_at")
    forgotten = 0
    while some := list(old.values_list("pk", flat=True)[:batch]):
        forgotten += IdempotencyRecord.objects.filter(pk__in=some).delete()[0]
    return forgotten


def _act_once(request: Request, key: str, act: Callable[[], Response]) -> Response | IdempotencyRecord:
    """Return the answer of `act`; or the record of when this was done before."""
    path = _path_of(request)
    place = {"member": request.user, "method": request.method, "path": path, "key": key}
    _claim(f"{request.user.pk} {request.method} {path} {key}")
    now = clock.now()
    earlier = IdempotencyRecord.objects.filter(**place).first()
    if earlier is not None and earlier.created_at >= now - KEPT_FOR:
        return earlier
    if earlier is not None:
        earlier.delete()
    response = act()
    if status.is_success(response.status_code) and not getattr(response, "changed_nothing", False):
        again = getattr(response, "again", None)
        IdempotencyRecord.objects.create(
            **place,
            body_hash=hashlib.sha256(request.body).digest(),
            status=response.status_code,
            body=response.data if again is None else again,
            held_secret=again is not None,
            created_at=now,
        )
    return response


def _path_of(request: Request) -> str:
    """Return the path, for an access key that may do less than its owner one of its own.

    What others of the same member were answered may be more than it may see.
    """
    limits = caller(request).limits
    return f"{request.path} {limits.access_key_id}" if limits.narrow else request.path


def _claim(place: str) -> None:
    """Keep everybody else from the same place until the transaction ends; ApiError where somebody else has it."""
    if connection.vendor != "postgresql":
        return  # SQLite's transactions are IMMEDIATE: one after the other anyway.
    number = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (mine,) = cursor.fetchone()
    if not mine:
        raise ApiError(HTTPStatus.CONFLICT, "in_progress", "The first request with this key is still running.")


def _repeat(record: IdempotencyRecord, request: Request) -> Response:
    if bytes(record.body_hash) != hashlib.sha256(request.body).digest():
        detail = f"This {HEADER} was used for another body."
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
    if record.held_secret:
        detail = "This was done before. The value that it made was shown then and is not shown again."
        raise ApiError(HTTPStatus.CONFLICT, "already_processed", detail, **(record.body or {}))
    return Response(record.body, status=record.status, headers={"Idempotent-Replayed": "true"})

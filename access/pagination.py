"""Pages of a list: by number, with the count of the whole; or by cursor, which stay right while rows are added."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django.core.paginator import Paginator
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from access.cursors import BadCursor, Cursor, page_of, terms_of

# While rest_framework.views is being made, it asks for this module.
if TYPE_CHECKING:
    from rest_framework.views import APIView

CURSOR: Final = "cursor"
_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")


class CountedPagination(PageNumberPagination):
    """`page` from 1, `page_size` up to 500; a page that does not exist is 404, what is no number 400.

    With `cursor`, empty for the first page, pages are cut by cursor instead, and `count` is null: nothing is counted.
    """

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    page_query_description = "The page, from 1."
    page_size_query_description = "Items on a page, at most 500."
    cursor_query_description = (
        "Instead of `page`: empty for the first page, then as `next` and `previous` have it. `count` is null."
    )
    # The addresses of the pages around one that was cut by cursor; None: by number.
    around: tuple[str | None, str | None] | None = None

    def paginate_queryset(  # type: ignore[override]  # a list's rows, always
        self, queryset: QuerySet[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        if CURSOR not in request.query_params:
            return super().paginate_queryset(queryset, request, view)
        if "page" in request.query_params:
            raise ValidationError({"page": ["Say `page` or `cursor`, not both."]}, code="not_both")
        text, terms = request.query_params[CURSOR], terms_of(queryset)
        try:
            cursor = Cursor.read(text, queryset, terms) if text else None
        except BadCursor as error:
            raise ValidationError({CURSOR: [str(error)]}, code="invalid_cursor") from error
        page = page_of(queryset, cursor, self.get_page_size(request))
        here = request.build_absolute_uri()
        following, preceding = (
            replace_query_param(here, CURSOR, one.written(queryset, terms)) if one is not None else None
            for one in (page.following, page.preceding)
        )
        self.around = following, preceding
        return page.rows

    def get_paginated_response(self, data: Any) -> Response:
        if self.around is None:
            return super().get_paginated_response(data)
        following, preceding = self.around
        return Response({"count": None, "next": following, "previous": preceding, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link: dict[str, Any] = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {
                "count": {"type": ["integer", "null"], "description": "Of the whole list; null with `cursor`."},
                "next": {**link, "description": "The page after this one; null on the last."},
                "previous": {**link, "description": "The page before this one; null on the first."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        whole = {"type": "integer", "minimum": 1}
        return [
            _parameter("page", self.page_query_description, {**whole, "maximum": 999_999_999}),
            _parameter("page_size", self.page_size_query_description, {**whole, "maximum": self.max_page_size}),
            _parameter(CURSOR, self.cursor_query_description, {"type": "string"}),
        ]

    def get_page_size(self, request: Request) -> int:
        size = _number(request, "page_size", default=self.page_size)
        if size > self.max_page_size:
            message = f"At most {self.max_page_size}."
            raise ValidationError({"page_size": [message]}, code="max_value")
        return size

    def get_page_number(self, request: Request, paginator: Paginator[Any]) -> int:
        return _number(request, "page", default=1)


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _number(request: Request, name: str, *, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise ValidationError({name: ["This is no whole number from 1."]}, code="invalid")
    return int(text)

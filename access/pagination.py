"""Pages of a list, with the count of the whole."""

from __future__ import annotations

import re
from typing import Any, Final

from django.core.paginator import Paginator
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request

_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")


class CountedPagination(PageNumberPagination):
    """`page` from 1, `page_size` up to 500; a page that does not exist is 404, what is no number 400."""

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    page_query_description = "The page, from 1."
    page_size_query_description = "Items on a page, at most 500."

    def get_page_size(self, request: Request) -> int:
        size = _number(request, "page_size", default=self.page_size)
        if size > self.max_page_size:
            message = f"At most {self.max_page_size}."
            raise ValidationError({"page_size": [message]}, code="max_value")
        return size

    def get_page_number(self, request: Request, paginator: Paginator[Any]) -> int:
        return _number(request, "page", default=1)


def _number(request: Request, name: str, *, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise ValidationError({name: ["This is no whole number from 1."]}, code="invalid")
    return int(text)

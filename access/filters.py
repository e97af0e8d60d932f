"""What a list shows: what the member sees, narrowed by parameters of which none is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import django_filters
from django import forms
from django.db.models import Model, QuerySet
from django.db.models.expressions import Combinable
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.filters import BaseFilterBackend, OrderingFilter, SearchFilter
from rest_framework.request import Request

from access.actors import caller
from access.cursors import Term, may_be_null
from audit.parameters import LONGEST_TEXT, MOST_WORDS

# While rest_framework.views is being made, it asks for this module.
if TYPE_CHECKING:
    from rest_framework.views import APIView


class VisibleFilterBackend(BaseFilterBackend):
    """Leaves what the member sees; the rest is answered as if it did not exist."""

    def filter_queryset[M: Model, R](self, request: Request, queryset: QuerySet[M, R], view: APIView) -> QuerySet[M, R]:
        return cast("QuerySet[M, R]", caller(request).visible(cast("QuerySet[M]", queryset)))


class StrictFilterBackend(DjangoFilterBackend):
    """Applies a list's filters; an unknown parameter, and one said twice that takes one value, is 400 by its name."""

    def filter_queryset(  # type: ignore[override]  # DRF's request, always
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        one_object = getattr(view, "detail", False)
        filterset = None if one_object else self.get_filterset(request, queryset, view)
        filters = filterset.filters if filterset is not None else {}
        self._check_names(request, view, filters, one_object)
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise ValidationError(_errors(filterset.form))
        return filterset.qs

    def _check_names(self, request: Request, view: APIView, filters: dict[str, Any], one_object: bool) -> None:
        known = set(filters)
        if not one_object:
            known |= {"page", "page_size", "cursor"} if getattr(view, "action", None) == "list" else set()
            known |= {"search"} if _is_searched(view) else set()
            known |= getattr(view, "own_parameters", frozenset())
            known |= {"ordering"} if getattr(view, "ordering_fields", None) else set()
        errors: dict[str, list[ErrorDetail]] = {}
        for name, values in request.query_params.lists():
            if name not in known:
                errors[name] = [ErrorDetail("There is no such parameter.", code="unknown_parameter")]
            elif len(values) > 1 and not isinstance(filters.get(name), django_filters.MultipleChoiceFilter):
                errors[name] = [ErrorDetail("This may be said once.", code="repeated")]
            elif name in filters and "" in values:
                # A script whose variable is empty must not get everything.
                errors[name] = [ErrorDetail("Say which, or leave the parameter out.", code="blank")]
        if errors:
            raise ValidationError(errors)


class PlainSearchFilter(SearchFilter):
    """Searches the view's `search_fields` for every word, or leaves it to the view's own `search(queryset, text)`."""

    search_description = f"Words that must all occur; at most {MOST_WORDS} of them, and {LONGEST_TEXT} characters."

    def filter_queryset[M: Model, R](self, request: Request, queryset: QuerySet[M, R], view: APIView) -> QuerySet[M, R]:
        own = getattr(view, "search", None)
        if own is None:
            return super().filter_queryset(request, queryset, view)
        terms = self.get_search_terms(request)
        return cast("QuerySet[M, R]", own(queryset, " ".join(terms))) if terms else queryset

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        if not _is_searched(view):
            return []
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            parameter["schema"] = {"type": "string", "maxLength": LONGEST_TEXT}
        return parameters

    def get_search_terms(self, request: Request) -> list[str]:
        # Every word is a condition for each field: without a limit, more than a database takes.
        if len(request.query_params.get("search", "")) > LONGEST_TEXT:
            raise ValidationError({"search": [f"At most {LONGEST_TEXT} characters."]}, code="max_length")
        try:
            terms = super().get_search_terms(request)
        except ValidationError as error:
            raise ValidationError({"search": error.detail}) from error
        if len(terms) > MOST_WORDS:
            raise ValidationError({"search": [f"At most {MOST_WORDS} words."]}, code="max_length")
        return terms


def _is_searched(view: APIView) -> bool:
    return bool(getattr(view, "search_fields", None) or getattr(view, "search", None))


class StableOrderingFilter(OrderingFilter):
    """Orders by the view's `ordering_fields` ({public name: look-up}); what is absent comes last, ties go by id."""

    ordering_description = "Comma-separated; a leading - reverses. One of: "

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        fields: dict[str, str] = getattr(view, "ordering_fields", None) or {}
        text = request.query_params.get("ordering")
        if text is None or not fields:
            return queryset
        orders: list[Combinable | str] = []
        for name in text.split(","):
            path = fields.get(name.strip().removeprefix("-"))
            if path is None:
                message = f"Order by {', '.join(fields)}; a leading - reverses."
                raise ValidationError({"ordering": [message]}, code="invalid")
            term = Term(path, name.strip().startswith("-"), may_be_null(queryset.model, path))
            orders.append(term.order(backwards=False))
        return queryset.order_by(*orders[: len(fields)], "pk")

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        fields = getattr(view, "ordering_fields", None)
        if not fields:
            return []
        description = self.ordering_description + ", ".join(fields) + "."
        one = f"-?({'|'.join(fields)})"
        schema = {"type": "string", "pattern": f"^{one}(,{one})*$"}
        return [{"name": "ordering", "in": "query", "required": False, "description": description, "schema": schema}]


def _errors(form: forms.Form) -> dict[str, list[ErrorDetail]]:
    return {
        name: [
            ErrorDetail(_with_choices(form.fields.get(name), error), code=error["code"] or "invalid")
            for error in errors
        ]
        for name, errors in form.errors.get_json_data().items()
    }


def _with_choices(field: forms.Field | None, error: dict[str, str]) -> str:
    """Return what is wrong; of a word that is none of some words, which those are."""
    if error["code"] != "invalid_choice" or not isinstance(field, forms.ChoiceField):
        return error["message"]
    choices = cast("list[tuple[str, str]]", list(field.choices))  # type: ignore[arg-type]  # pairs, by now
    return f"One of {', '.join(str(value) for value, _ in choices if value)}."

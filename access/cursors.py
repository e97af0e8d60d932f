"""Pages of a list by where the last one ended, not by how many rows came before: they stay right while rows are added.

A cursor holds the values that the list was ordered by, of the row at the end of a page, and is signed: it is made here
or refused. The next page is what lies beyond these values, found by the index and not by counting (a keyset).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self

from django.core import signing
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist, ValidationError
from django.db.models import F, Field, Model, Q, QuerySet
from django.db.models.expressions import Combinable, OrderBy

SALT: Final = "access.cursors"


class BadCursor(Exception):
    """It was not made here, or for another list or another ordering; the message says which."""


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a list is ordered by. What is absent comes last, in either direction."""

    path: str
    descending: bool
    nullable: bool

    def order(self, *, backwards: bool) -> Combinable | str:
        descending = self.descending != backwards
        # "nulls last" is said only where there are nulls: said elsewhere it would keep PostgreSQL from its indexes.
        if not self.nullable:
            return f"-{self.path}" if descending else self.path
        nulls = {"nulls_first": True} if backwards else {"nulls_last": True}
        return F(self.path).desc(**nulls) if descending else F(self.path).asc(**nulls)

    def value_of(self, row: Model) -> Any:
        value: Any = row
        for name in self.path.split("__"):
            try:
                value = getattr(value, name)
            except ObjectDoesNotExist:
                return None
            if value is None:
                return None
        return value

    def same(self, value: Any) -> Q:
        return Q(**{f"{self.path}__isnull": True}) if value is None else Q(**{self.path: value})

    def beyond(self, value: Any, *, backwards: bool, equal: bool = False) -> Q | None:
        """Return the condition for what comes after `value` (or also for it, `equal`); None where nothing can."""
        if value is None:
            if backwards:
                return Q() if equal else Q(**{f"{self.path}__isnull": False})
            return self.same(None) if equal else None
        side = ("lt" if self.descending != backwards else "gt") + ("e" if equal else "")
        condition = Q(**{f"{self.path}__{side}": value})
        return condition | self.same(None) if self.nullable and not backwards else condition


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an ordered list. backwards: what came before it is asked for; inclusive: the place itself as well."""

    values: tuple[Any, ...]
    backwards: bool = False
    inclusive: bool = False

    @classmethod
    def read(cls, text: str, queryset: QuerySet[Any], terms: list[Term]) -> Self:
        """Return the cursor that `text` is, for this list in this order. Errors: BadCursor."""
        try:
            label, order, values, backwards, inclusive = signing.loads(text, salt=SALT)
        except (signing.BadSignature, ValueError) as error:
            raise BadCursor("This is no cursor. Take one from `next` or `previous`, or none to begin.") from error
        if label != queryset.model._meta.label:
            raise BadCursor("This cursor is another list's.")
        if order != _order_of(terms):
            raise BadCursor("This cursor is of another ordering. Keep to one, or begin again with an empty cursor.")
        try:
            fields = [_field(queryset.model, term.path) for term in terms]
            parsed = [
                None if value is None else field.to_python(value) for field, value in zip(fields, values, strict=True)
            ]
        except (ValidationError, ValueError, FieldDoesNotExist) as error:
            raise BadCursor("This cursor is too old. Begin again with an empty one.") from error
        return cls(tuple(parsed), backwards, inclusive)

    def written(self, queryset: QuerySet[Any], terms: list[Term]) -> str:
        """Return it as text, for whoever asks for the page."""
        values = [str(value) if isinstance(value, datetime | uuid.UUID) else value for value in self.values]
        facts = [queryset.model._meta.label, _order_of(terms), values, self.backwards, self.inclusive]
        return signing.dumps(facts, salt=SALT, compress=True)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the list's order, and the cursors of the pages around them; None where there is nothing."""

    rows: list[Any]
    following: Cursor | None
    preceding: Cursor | None


def terms_of(queryset: QuerySet[Any]) -> list[Term]:
    """Return what `queryset` is ordered by, to the last tie."""
    given = queryset.query.order_by or tuple(queryset.model._meta.ordering)
    terms = [_term(queryset.model, item) for item in given]
    key = queryset.model._meta.pk.name
    return terms if any(term.path in {"pk", key} for term in terms) else [*terms, Term("pk", False, False)]


def page_of(queryset: QuerySet[Any], cursor: Cursor | None, size: int) -> Page:
    """Return the page at `cursor`, the first one where there is none, in one query."""
    terms = terms_of(queryset)
    backwards = cursor is not None and cursor.backwards
    if cursor is not None:
        queryset = queryset.filter(_beyond(terms, cursor))
    rows = list(queryset.order_by(*(term.order(backwards=backwards) for term in terms))[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    if backwards:
        rows.reverse()
    if not rows:
        # Whoever goes back from beyond the end finds the row at which they stood.
        back = replace(cursor, backwards=not backwards, inclusive=True) if cursor is not None else None
        return Page([], back if backwards else None, None if backwards else back)
    first, last = (Cursor(tuple(term.value_of(row) for term in terms)) for row in (rows[0], rows[-1]))
    return Page(
        rows,
        following=last if more or backwards else None,
        preceding=replace(first, backwards=True) if (more if backwards else cursor is not None) else None,
    )


def may_be_null(model: type[Model], path: str) -> bool:
    """Say whether rows may have nothing at `path`; through a relation the row itself may be absent."""
    try:
        return "__" in path or bool(getattr(model._meta.get_field(path), "null", False))
    except FieldDoesNotExist:
        return path != "pk"


def _beyond(terms: list[Term], cursor: Cursor) -> Q:
    """Return the condition for what comes after the cursor: beyond in one term, and the same in all before it."""
    beyond, same = [], Q()
    for term, value in zip(terms, cursor.values, strict=True):
        past = term.beyond(value, backwards=cursor.backwards)
        if past is not None:
            beyond.append(same & past)
        same &= term.same(value)
    if cursor.inclusive:
        beyond.append(same)
    # Said beside the rest, which it follows from, so that an index is entered at the right place.
    lead = terms[0].beyond(cursor.values[0], backwards=cursor.backwards, equal=True) or Q()
    return lead & _any(beyond)


def _any(conditions: Iterable[Q]) -> Q:
    found = Q(pk__in=[])
    for condition in conditions:
        found |= condition
    return found


def _term(model: type[Model], item: Any) -> Term:
    if isinstance(item, OrderBy):
        path, descending = str(getattr(item.expression, "name", "")), item.descending
    else:
        path, descending = str(item).removeprefix("-"), str(item).startswith("-")
    return Term(path, descending, may_be_null(model, path))


def _order_of(terms: list[Term]) -> str:
    return ",".join(f"-{term.path}" if term.descending else term.path for term in terms)


def _field(model: type[Model], path: str) -> Field[Any, Any]:
    field: Any = None
    for name in path.split("__"):
        field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        model = getattr(field, "related_model", None) or model
    found: Field[Any, Any] = field
    return found

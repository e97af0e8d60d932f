"""Bodies of requests, taken by the letter: no unknown field, no value of another type that might do as well."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from audit.instants import parse_instant


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses, by name and with code `unknown_field`, whatever it does not know."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        # What DRF makes of an empty form; for a form it would take an absent boolean for false.
        return super().run_validation({} if isinstance(data, QueryDict) else data)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            known = {name for name, field in self.fields.items() if not field.read_only}
            if unknown := [name for name in data if name not in known]:
                error = ErrorDetail("There is no such field to set.", code="unknown_field")
                raise ValidationError({name: [error] for name in unknown[:100]})
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """A string and nothing else. The verbs clean it, so that every door has the same rules."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"trim_whitespace": False, "allow_blank": True, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class FlagField(serializers.BooleanField):
    """true or false; not "true", not 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class NumberField(serializers.IntegerField):
    """A whole number; not "5", not 5.0."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class InstantField(serializers.DateTimeField):
    """A time in RFC 3339, with its offset; in UTC from here on."""

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            raise ValidationError("This is no time such as 2030-01-31T12:00:00Z.", code="invalid")
        try:
            return parse_instant(data)
        except DjangoValidationError as error:
            raise ValidationError(error.messages, code=error.code) from error


class IdField(serializers.UUIDField):
    """A UUID as text."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class TextListField(serializers.ListField):
    """A list of strings."""

    child = TextField(max_length=500)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": 1_000, **kwargs})


class OneOfField(serializers.ChoiceField):
    """One of some words."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)

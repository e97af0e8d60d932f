"""What the console's lists take from their address: the filters that they offer, a search, and nothing else."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeListSearchForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.views import ChangeList

from audit.parameters import LONGEST_TEXT, MOST_WORDS


class SearchForm(ChangeListSearchForm):
    """A search that a database can take: every word is a condition for each column."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[SEARCH_VAR] = forms.CharField(
            required=False, strip=False, max_length=LONGEST_TEXT, validators=[_check_words]
        )


class StrictChangeList(ChangeList):
    """A list that is narrowed by its filters alone.

    Django takes any column with any operator: a password's hash could be guessed character by character, an
    expression of a `__regex` keep the process busy for hours, and many a value ends in an error of ours. What is no
    filter is answered as Django answers what it cannot read: with the list as it is without filters.
    """

    search_form_class = SearchForm

    def get_filters(self, request: HttpRequest) -> Any:
        filters = super().get_filters(request)
        others = filters[2]
        if others:
            raise IncorrectLookupParameters(f"no filter: {', '.join(others)}")
        return filters


def _check_words(text: str) -> None:
    if len(text.split()) > MOST_WORDS:
        raise ValidationError(f"At most {MOST_WORDS} words.", code="max_words")

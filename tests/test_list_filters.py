"""Whatever stands in a list's address, the console answers it: no filter, page or column makes it fail."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.contrib import admin as django_admin
from django.urls import reverse

from access.models import Member
from tests.factories import make_access_key, make_gateway, make_group, make_key
from tests.fixtures import BrowserOf
from tests.pages import text_of

NONSENSE = ("zz", "9" * 25, "\0")


@pytest.fixture
def rows(admin: Member) -> None:
    """A row in every list whose filters offer the rows of others."""
    make_key(consumer_group=make_group())
    make_gateway()
    make_access_key(admin)


@pytest.mark.parametrize("screen", django_admin.site._registry, ids=lambda model: model._meta.model_name)
@pytest.mark.parametrize("given", NONSENSE)
def test_nonsense_in_the_address_of_a_list_is_no_failure(
    given: str, screen: Any, rows: None, browser: BrowserOf, admin: Member
) -> None:
    client, filters = browser(admin), cast("tuple[Any, ...]", django_admin.site._registry[screen].list_filter)
    parameters = {"q", "p", "o"}
    for spec in filters:
        first = spec[0] if isinstance(spec, tuple) else spec
        name = first if isinstance(first, str) else first.parameter_name
        parameters |= {name, f"{name}__exact", f"{name}_from", f"{name}_to"}
    link = reverse(f"admin:{screen._meta.app_label}_{screen._meta.model_name}_changelist")
    for parameter in sorted(parameters):
        status = client.get(link, {parameter: given}).status_code
        assert status < 500, f"?{parameter}={given!r}"


@pytest.mark.parametrize("screen", django_admin.site._registry, ids=lambda model: model._meta.model_name)
def test_a_list_is_narrowed_by_its_filters_alone(screen: Any, browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    link = reverse(f"admin:{screen._meta.app_label}_{screen._meta.model_name}_changelist")
    for field in screen._meta.get_fields():
        for lookup in ("__startswith", "__regex", "__gt", "__in", "__contained_by"):
            answer = client.get(link, {f"{field.name}{lookup}": "1"})
            # A column of another table is refused by Django itself.
            assert (answer.status_code, answer.headers.get("Location")) in {(302, f"{link}?e=1"), (400, None)}, field


@pytest.mark.parametrize("screen", django_admin.site._registry, ids=lambda model: model._meta.model_name)
@pytest.mark.parametrize(("text", "said"), [("w " * 90, "At most 10 words."), ("x" * 9_000, "at most 200 characters")])
def test_a_search_that_is_too_long_is_told_so(
    text: str, said: str, screen: Any, browser: BrowserOf, admin: Member
) -> None:
    link = reverse(f"admin:{screen._meta.app_label}_{screen._meta.model_name}_changelist")
    assert said in text_of(browser(admin).get(link, {"q": text}))


@pytest.mark.parametrize(
    "query",
    ["audit/auditentry/?at_to=9999-12-31", "keys/gatewaykey/?expiring_within=000000001" + "0" * 5_000],
    ids=["the last day there is", "more digits than a number has"],
)
def test_what_is_beyond_every_number_is_no_failure(query: str, browser: BrowserOf, admin: Member) -> None:
    assert browser(admin).get(f"/admin/{query}").status_code == 200

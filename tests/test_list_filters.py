"""Whatever stands in a list's address, the console answers it: no filter, page or column makes it fail."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.contrib import admin as django_admin
from django.urls import reverse

from access.models import Member
from tests.factories import make_access_key, make_gateway, make_group, make_key
from tests.fixtures import BrowserOf

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

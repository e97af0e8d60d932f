"""The three roles, and the API as each of them calls it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.test import Client
from rest_framework.test import APIClient

from access.models import Member
from access.rules import Role
from tests.factories import make_access_key, make_member

type BrowserOf = Callable[[Member], Client]
type ApiOf = Callable[[Member], APIClient]


@pytest.fixture(autouse=True)
def _nobody_was_counted_yet() -> None:
    """Let no throttle remember what another test has asked."""
    cache.clear()


@pytest.fixture
def admin(db: None) -> Member:
    return make_member(Role.ADMIN, username="ada.admin")


@pytest.fixture
def manager(db: None) -> Member:
    return make_member(Role.MANAGER, username="max.manager")


@pytest.fixture
def auditor(db: None) -> Member:
    return make_member(Role.AUDITOR, username="amy.auditor")


@pytest.fixture
def browser(db: None) -> BrowserOf:
    """Return what gives a member a browser in which they are signed in to the console."""

    def browser_of(member: Member) -> Client:
        client = Client()
        client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return browser_of


@pytest.fixture
def api(db: None) -> ApiOf:
    """Return what gives a member's client of the management API, with an access key of its own."""

    def client_of(member: Member) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {make_access_key(member).value}")
        return client

    return client_of


@pytest.fixture
def admin_api(api: ApiOf, admin: Member) -> APIClient:
    return api(admin)


@pytest.fixture
def manager_api(api: ApiOf, manager: Member) -> APIClient:
    return api(manager)


@pytest.fixture
def auditor_api(api: ApiOf, auditor: Member) -> APIClient:
    return api(auditor)


@pytest.fixture
def stranger_api() -> APIClient:
    """Somebody without any credential, whom the throttle has not seen yet."""
    cache.clear()
    return APIClient()

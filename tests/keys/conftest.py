"""What the tests of the console's key screens share."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from access.models import Member
from keys.models import GatewayKey

type Console = Callable[[Member], Client]

KEYS = "/admin/keys/gatewaykey/"
ADD = f"{KEYS}add/"


def page_of(key: GatewayKey) -> str:
    return f"{KEYS}{key.pk}/change/"


def dialog_of(key: GatewayKey, verb: str) -> str:
    return f"{KEYS}{key.pk}/{verb}/"


@pytest.fixture
def console(db: None) -> Console:
    """Give each member a browser that is signed in."""

    def browser_of(member: Member) -> Client:
        client = Client()
        client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return browser_of


def text_of(response: Any) -> str:
    """Return what a person reads of a page, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def form(**given: Any) -> dict[str, Any]:
    """Return what the form of a key sends; every field may be given otherwise."""
    empty = {"description": "", "consumer_group": "", "allowed_networks": "", "expires_on": ""}
    return {"name": "billing-service", "expiry": "90", **empty, **given}

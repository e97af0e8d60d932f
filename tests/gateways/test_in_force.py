"""Console and API tell on which gateway processes a change is in force when they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from django.test import Client
from rest_framework.test import APIClient

from access.models import Member
from access.rules import Role
from gateways import processes
from keys import lifecycle
from tests.factories import TESTS, make_access_key, make_gateway, make_group, make_key, make_member
from tests.keys.conftest import form
from tests.pages import SENT, confirmed, known_state, text_of
from tests.plane import running_plane
from tests.processes import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.usefixtures("two_processes")]

HEADER = "X-Keeptrusts-In-Force-On"
ON_BOTH = r"^processes=2, applied=2, milliseconds=\d+\.\d$"
TOLD = r"{} on 2 of 2 gateway processes in \d+ ms\."
API, CONSOLE = "/api/v1/gateway-keys/", "/admin/keys/gatewaykey/"


@pytest.fixture
def two_processes(transactional_db: None) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(running_plane())
        assert eventually(lambda: len(processes.standing([])) == 2)
        yield


@pytest.fixture
def member(two_processes: None) -> Member:
    return make_member(Role.ADMIN)


@pytest.fixture
def api(member: Member) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {make_access_key(member).value}")
    return client


@pytest.fixture
def console(member: Member) -> Client:
    client = Client()
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_the_api_tells_it_of_every_verb(api: APIClient) -> None:
    key = make_key().key
    answers = [
        api.post(f"{API}{key.pk}/rotate/", {"grace_seconds": 60}),
        api.post(f"{API}{key.pk}/end-grace/"),
        api.patch(f"{API}{key.pk}/", {"allowed_networks": ["10.0.0.0/8"]}),
        api.post(f"{API}{key.pk}/disable/"),
        api.post(f"{API}{key.pk}/enable/"),
        api.post(f"{API}{key.pk}/revoke/"),
        api.post(f"{API}bulk-revoke/", {"ids": [str(key.pk), str(uuid4())]}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert re.match(ON_BOTH, answer[HEADER])


def test_the_api_tells_it_of_groups_and_gateways(api: APIClient) -> None:
    group, gateway = make_group(), make_gateway().gateway
    for answer in (
        api.patch(f"/api/v1/consumer-groups/{group.slug}/", {"allowed_networks": ["10.0.0.0/8"]}),
        api.patch(f"/api/v1/gateways/{gateway.pk}/", {"require_group": True}),
        api.post(f"/api/v1/gateways/{gateway.pk}/rotate-token/"),
    ):
        assert answer.status_code == 200
        assert re.match(ON_BOTH, answer[HEADER])


def test_an_idempotency_key_does_not_answer_before_it_is_in_force(api: APIClient) -> None:
    """The verb runs in a transaction of the request's then: only its commit brings anything into force."""
    key = make_key().key
    headers = {"Idempotency-Key": "revoke-once"}
    first, again = (api.post(f"{API}{key.pk}/revoke/", headers=headers) for _ in range(2))
    assert re.match(ON_BOTH, first[HEADER])
    assert re.match(ON_BOTH, again[HEADER])
    assert first.json() == again.json()


def test_what_changes_no_decision_is_told_without_it(api: APIClient) -> None:
    key = make_key().key
    assert HEADER not in api.patch(f"{API}{key.pk}/", {"name": "renamed"})
    assert HEADER not in api.get(f"{API}{key.pk}/")
    assert HEADER not in api.post(API, {"name": "another"})
    lifecycle.revoke(actor=TESTS, key_id=key.pk)
    assert HEADER not in api.post(f"{API}{key.pk}/rotate/")


def test_the_console_tells_it_in_a_sentence(console: Client) -> None:
    key = make_key("billing").key
    console.post(f"{CONSOLE}{key.pk}/disable/", SENT)
    assert re.search(TOLD.format("billing is disabled, and refused"), text_of(console.get(CONSOLE)))
    console.post(f"{CONSOLE}{key.pk}/enable/", SENT)
    assert re.search(TOLD.format("billing is enabled"), text_of(console.get(CONSOLE)))
    edited = form(name="billing", allowed_networks="10.0.0.0/8")
    page = f"{CONSOLE}{key.pk}/change/"
    saved = console.post(page, {**known_state(console, page), **edited}, follow=True)
    assert re.search(TOLD.format("In force"), text_of(saved))
    immediate = console.post(f"{CONSOLE}{key.pk}/rotate/", confirmed(grace="0"))
    assert re.search(TOLD.format("is refused from now on,"), text_of(immediate))
    console.post(f"{CONSOLE}{key.pk}/revoke/", SENT)
    assert re.search(TOLD.format("billing is revoked, and refused"), text_of(console.get(CONSOLE)))


def test_the_console_tells_it_of_many(console: Client) -> None:
    keys = [make_key().key for _ in range(3)]
    sent = {"step": "apply", "ids": ",".join(str(key.pk) for key in keys), "reason": "leaked", "form_token": uuid4()}
    answer = console.post("/admin/hygiene/revoke/", sent, follow=True)
    assert re.search(rf"3 keys done \. {TOLD.format('In force')}", text_of(answer))

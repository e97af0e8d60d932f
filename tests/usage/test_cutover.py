"""The cut-over of a rotation, as the page of the key and its dialogs show it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.test import Client

from access.models import Member
from audit import clock
from audit.moments import stamp
from gateways.models import Gateway
from keys import lifecycle
from keys.models import GatewayKey, KeyVersion
from tests.factories import TESTS, make_gateway, make_key
from usage.ingest import ingest

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin: Member) -> Client:
    browser = Client()
    browser.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def rotating() -> GatewayKey:
    return lifecycle.rotate(actor=TESTS, key_id=make_key("chatbot").key.pk, grace=timedelta(hours=24)).key


def served(version: KeyVersion, times: int = 1, *, address: str = "192.0.2.1", at: datetime | None = None) -> None:
    """Let the gateway "edge" report so many requests with this version's value."""
    gateway = Gateway.objects.filter(name="edge").first() or make_gateway("edge", usage_source="report").gateway
    event = {
        "occurred_at": (at or clock.now()).isoformat(),
        "key_id": str(version.key_id),
        "key_version": version.number,
        "client_ip": address,
    }
    taken = ingest(gateway_id=gateway.pk, events=[{**event, "id": str(uuid4())} for _ in range(times)])
    assert taken.accepted == times, taken


def of(key: GatewayKey, what: str = "cutover") -> str:
    return f"/admin/keys/gatewaykey/{key.pk}/{what}/"


def test_the_page_of_a_rotating_key_asks_for_its_cutover_and_again_and_again(client: Client) -> None:
    key, other = rotating(), make_key("other").key
    assert f'hx-get="{of(key)}" hx-trigger="load"' in client.get(of(key, "change")).content.decode()
    assert f'hx-get="{of(key)}" hx-trigger="every 5s"' in client.get(of(key)).content.decode()
    assert of(other) not in client.get(of(other, "change")).content.decode()


def test_the_cutover_stops_asking_when_it_is_over(client: Client) -> None:
    key = rotating()
    assert "hx-trigger" in client.get(of(key)).content.decode()
    lifecycle.end_grace(actor=TESTS, key_id=key.pk)
    over = client.get(of(key))
    assert "hx-trigger" not in over.content.decode()
    assert "The rotation is over" in over.content.decode()


def test_a_value_that_was_never_used_is_said_so(client: Client) -> None:
    assert "The old value was never used." in client.get(of(rotating())).content.decode()


def test_who_still_sends_the_old_value_is_told_on_the_page_and_before_ending_grace(client: Client) -> None:
    key = rotating()
    new, old = key.versions.all()
    served(old, 3, address="192.0.2.7")
    served(new, address="192.0.2.99")
    for page in (client.get(of(key)), client.get(of(key, "end_grace"))):
        html = page.content.decode()
        assert "The old value is still in use:" in html
        assert "192.0.2.7" in html
        assert "edge" in html
        assert "192.0.2.99" not in html


def test_each_version_has_its_requests(client: Client) -> None:
    key = rotating()
    new, old = key.versions.all()
    served(old, 3)
    served(new)
    steps = client.get(of(key)).context["steps"]
    assert [cell.requests for cell in steps[0][1]] == [1, 3]
    assert [cell.share for cell in steps[0][1]] == [34, 100]


def test_an_old_value_that_nobody_has_sent_for_a_while_has_gone_quiet(client: Client) -> None:
    key = rotating()
    served(key.versions.get(number=1), at=clock.now() - timedelta(minutes=20))
    assert "has gone quiet" in client.get(of(key)).content.decode()


def test_what_nobody_sees_has_no_cutover(client: Client) -> None:
    assert client.get("/admin/keys/gatewaykey/00000000-0000-0000-0000-000000000000/cutover/").status_code == 404


def test_the_rotate_dialog_says_in_times_what_will_happen(client: Client) -> None:
    key = make_key("chatbot").key
    said = client.get(of(key, "rotate"))
    day = stamp(clock.now() + timedelta(hours=24))[:13]
    html = said.content.decode()
    assert f"The old value {key.hint} is accepted until {day}" in html
    assert "in 24 hours, and refused from then on." in html
    assert "is refused at once, everywhere" in html


def test_grace_is_said_to_end_with_the_key(client: Client) -> None:
    key = make_key("chatbot", expires_at=clock.now() + timedelta(hours=3)).key
    assert "That is when the key expires." in client.get(of(key, "rotate")).content.decode()

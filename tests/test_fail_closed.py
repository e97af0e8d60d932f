"""If the audit entry cannot be written, nothing happens: on every address of console and API that changes something.

Each is first tried as it is, so that it is known to change something; then with a log that takes no entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from access.invitations import invite_member
from access.models import Member
from access.rules import Role
from audit.models import AuditEntry
from audit.sealing import seal
from keys import lifecycle
from keys.groups import edit_group
from tests.access.signing_in import give_totp
from tests.factories import PASSWORD, TESTS, make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import ApiOf, BrowserOf
from tests.forms import filled
from tests.pages import SENT
from tests.test_permission_matrix import MATRIX as API_MATRIX
from tests.test_permission_matrix_console import MATRIX as CONSOLE_MATRIX
from tests.webhooks.makers import make_delivery, make_endpoint
from webhooks.endpoints import disable_endpoint

pytestmark = pytest.mark.django_db
NEW: Final = "another long password of nobody"
# Addresses that take a POST, and change nothing by it: they look something up, show a list, or lead somewhere else.
NO_CHANGE: Final = {
    *(
        "",
        "account/",
        "hygiene/",
        "find-a-key/",
        "find-a-key/{key}/after/",
        "why-refused/",
        "why-refused/{denial}/",
        "search/",
    ),
    *("keys/", "attention/", "keys/gatewaykey/{key}/cutover/", "keys/gatewaykey/{key}/denials/"),
    *("keys/gatewaykey/create/", "keys/consumergroup/create/", "gateways/gateway/create/", "access/member/create/"),
    *(
        "access/accesskey/create/",
        "keys/gatewaykey/{key}/edit/",
        "keys/gatewaykey/{key}/",
        "keys/consumergroup/{group}/",
    ),
    *(
        "gateways/gateway/{gateway}/",
        "usage/usageevent/{event}/",
        "audit/auditentry/{entry}/",
        "access/member/{member}/",
    ),
    *("access/accesskey/{access_key}/", "keys/consumergroup/", "gateways/gateway/", "usage/usageevent/"),
    *("audit/auditentry/", "access/member/", "access/accesskey/"),
    # They lead to the API's exports, which are tried there.
    *("keys/gatewaykey/export/", "usage/usageevent/export/", "usage/usageevent/export-days/"),
    *("audit/auditentry/export/", "audit/auditentry/evidence/"),
    *("webhooks/webhookendpoint/", "webhooks/webhookendpoint/create/", "webhooks/webhookendpoint/{endpoint}/"),
    *("webhooks/delivery/", "webhooks/delivery/{delivery}/"),
}
# With these the log has nothing to tell of: what only the member's own eyes see.
NOT_AUDITED: Final = {"preferences/"}

type World = Mapping[str, Any]


@pytest.fixture
def world(admin: Member) -> World:
    """One of everything, in a state in which each verb finds something to change."""
    group = make_group("payments")
    key, rotating, disabled = (make_key(name, consumer_group=group).key for name in ("plain", "rotating", "disabled"))
    lifecycle.rotate(actor=TESTS, key_id=rotating.pk, grace=timedelta(hours=1))
    lifecycle.disable(actor=TESTS, key_id=disabled.pk)
    somebody, gone = make_member(Role.AUDITOR), make_member(Role.AUDITOR, username="gone")
    Member.objects.filter(pk=gone.pk).update(is_active=False)
    give_totp(somebody)
    for member in (somebody, admin):  # a session in another browser
        Client().force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    strict = make_group("strict")
    breaching = make_key("breaching", consumer_group=strict).key
    edit_group(actor=TESTS, group_id=strict.pk, changed={"max_lifetime_days": 9}, existing_keys="leave")
    delivery = make_delivery(key)
    paused = make_endpoint("paused")
    disable_endpoint(actor=TESTS, endpoint_id=paused.pk)
    invited = invite_member(actor=TESTS, username="invited", role=Role.AUDITOR)
    seal()  # evidence is of what is sealed
    return {
        "group": group,
        "key": key,
        "rotating": rotating,
        "disabled": disabled,
        "unscoped": make_key("unscoped").key,
        "breaching": breaching,
        "endpoint": delivery.endpoint,
        "delivery": delivery,
        "paused": paused,
        "gateway": make_gateway().gateway,
        "member": somebody,
        "gone": gone,
        "invited": invited.member,
        "secret": invited.secret,
        "access_key": make_access_key(somebody).access_key,
        "own": make_access_key(admin).access_key,
    }


@contextmanager
def log_takes_no_entry() -> Iterator[None]:
    """Have the database refuse every new row of the log, until the transaction around this is undone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION audit_is_full() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'full'; END $$ "
                "LANGUAGE plpgsql"
            )
            cursor.execute(
                "CREATE TRIGGER audit_is_full BEFORE INSERT ON audit_auditentry "
                "FOR EACH ROW EXECUTE FUNCTION audit_is_full()"
            )
        else:
            cursor.execute(
                "CREATE TRIGGER audit_is_full BEFORE INSERT ON audit_auditentry BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
    yield


def everything() -> dict[str, list[Any]]:
    """Return every row of every table."""
    return {
        model._meta.db_table: sorted(model._base_manager.values_list(), key=repr)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed
    }


def changed_by(do: Callable[[], Any], *, log_is_full: bool) -> tuple[Any, set[str]]:
    """Return the answer, and the tables in which something is different then. All of it is undone."""
    with transaction.atomic():
        if log_is_full:
            with log_takes_no_entry():
                before, answer, after = everything(), do(), everything()
        else:
            before, answer, after = everything(), do(), everything()
        transaction.set_rollback(True)
    return answer, {table for table, rows in after.items() if rows != before[table]}


def tried(do: Callable[[], Any], *, claims: bool = False) -> str:
    """Say what is wrong with an address that should fail closed; nothing if it does.

    claims: whether the form is claimed before anything is done, so that nobody does half of it twice.
    """
    answer, tables = changed_by(do, log_is_full=False)
    if not tables or answer.status_code >= 400:
        said = getattr(answer, "content", b"")[:300]
        return f"changes nothing even with a log that takes entries: {answer.status_code} {said!r}"
    answer, tables = changed_by(do, log_is_full=True)
    if tables - ({"access_idempotencyrecord"} if claims else set()):
        return f"{answer.status_code}, and yet these have changed: {tables}"
    if answer.status_code != 503:
        return f"answered {answer.status_code}, not 503"
    if answer.get("Retry-After") != "1":
        return "has no Retry-After"
    if answer["Content-Type"] == "application/json":
        body = answer.json()
        return "" if (body["code"], body["fields"]) == ("unavailable", {}) else f"said {body}"
    return "" if b"Nothing was changed" in answer.content else "does not say that nothing was changed"


# --- the API ----------------------------------------------------------------------------------------------------------

# In which state an operation finds something to change, and a body with which it does.
STATES: Final = {
    "gateway-keys/{key}/end-grace/": {"key": "rotating"},
    "gateway-keys/{key}/extend-grace/": {"key": "rotating"},
    "gateway-keys/{key}/enable/": {"key": "disabled"},
    "members/{member}/invite-again/": {"member": "invited"},
    "members/{member}/withdraw-invitation/": {"member": "invited"},
    "members/{member}/let-in/": {"member": "gone"},
    "webhook-endpoints/{endpoint}/enable/": {"endpoint": "paused"},
}
BODIES: Final[dict[str, dict[str, Any]]] = {"gateway-keys/{key}/extend-grace/": {"grace_seconds": 90_000}}
# They answer a question, and change nothing.
API_NO_CHANGE: Final = {
    *("consumer-groups/payments/policy-preview/", "policy/preview/", "gateway-keys/find/"),
}
RECORDED_READS: Final = re.compile(r"export\.csv$|/verify/$|/evidence/$")


def api_call(client: APIClient, method: str, route: str, world: World) -> Callable[[], Any]:
    names = {name: getattr(obj, "pk", obj) for name, obj in world.items()}
    names |= {name: names[instead] for name, instead in STATES.get(route, {}).items()}
    body = BODIES.get(route, API_MATRIX[method, route][0])
    body = {**body, "ids": [str(names["key"])]} if "ids" in body else body
    path = f"/api/v1/{route.format(**{**names, 'group': 'payments'})}"

    def call() -> Any:
        answer = getattr(client, method)(path, body)
        if answer.streaming:  # an export: what it records is done when it was read
            b"".join(answer)
        return answer

    return call


def test_every_operation_of_the_api_fails_closed(api: ApiOf, admin: Member, world: World) -> None:
    client = api(admin)
    client.raise_request_exception = False
    client.get("/api/v1/me/")  # an access key notes when it was last used, once a minute: that is no change
    wanted = [
        (method, route)
        for method, route in API_MATRIX
        if (method != "get" or RECORDED_READS.search(route)) and route not in API_NO_CHANGE
    ]
    assert len(wanted) >= 38
    wrong = {(method, route): tried(api_call(client, method, route, world)) for method, route in wanted}
    assert not any(wrong.values()), "\n".join(f"{call}: {why}" for call, why in wrong.items() if why)


# --- the console ------------------------------------------------------------------------------------------------------


def keys_of(world: World, *names: str) -> str:
    return ",".join(str(world[name].pk) for name in names)


# address -> which object it is tried with (instead of the one that it names), and what is filled in.
CHANGES: Final[dict[str, tuple[dict[str, str], Callable[[World], dict[str, Any]]]]] = {
    "preferences/": ({}, lambda world: {"time_zone": "Asia/Kolkata"}),
    "hygiene/set-expiry/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "key"), "days": "9"}),
    "hygiene/owner/": (
        {},
        lambda world: {"step": "apply", "ids": keys_of(world, "key"), "owner": world["member"].pk},
    ),
    "hygiene/scope/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "unscoped"), "group": "1"}),
    "hygiene/end-grace/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "rotating")}),
    "hygiene/disable/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "key")}),
    "hygiene/revoke/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "key")}),
    "hygiene/align/": ({}, lambda world: {"step": "apply", "ids": keys_of(world, "breaching")}),
    "policy/": ({}, lambda world: {"idle_days": "30"}),
    "find-a-key/{key}/revoke/": ({}, lambda world: {"reason": "leaked", "confirmed": "on"}),
    "password_change/": (
        {},
        lambda world: {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW},
    ),
    "keys/gatewaykey/": (
        {},
        lambda world: {"action": "export_selected", "_selected_action": [str(world["key"].pk)]},
    ),
    "keys/gatewaykey/add/": ({}, lambda world: {"name": "made"}),
    "keys/gatewaykey/{key}/change/": ({}, lambda world: {"name": "renamed"}),
    "keys/gatewaykey/{key}/rotate/": ({}, lambda world: {}),
    "keys/gatewaykey/{key}/end_grace/": ({"key": "rotating"}, lambda world: {}),
    "keys/gatewaykey/{key}/extend_grace/": ({"key": "rotating"}, lambda world: {}),
    "keys/gatewaykey/{key}/disable/": ({}, lambda world: {}),
    "keys/gatewaykey/{key}/enable/": ({"key": "disabled"}, lambda world: {}),
    "keys/gatewaykey/{key}/revoke/": ({}, lambda world: {}),
    "keys/gatewaykey/{key}/replace/": ({}, lambda world: {"form_token": "0b8b4ba2-8f06-4b45-a4c6-0ad1ba67eb11"}),
    "keys/consumergroup/add/": ({}, lambda world: {"name": "made", "slug": "made"}),
    "keys/consumergroup/{group}/change/": ({}, lambda world: {"name": "renamed"}),
    "gateways/gateway/add/": ({}, lambda world: {"name": "made"}),
    "gateways/gateway/{gateway}/change/": ({}, lambda world: {"name": "renamed"}),
    "gateways/gateway/{gateway}/rotate_token/": ({}, lambda world: {}),
    "audit/auditentry/verify/": ({}, lambda world: {}),
    "access/member/add/": ({}, lambda world: {"username": "nora", "name": "Nora", "role": "auditor"}),
    "access/member/{member}/change/": ({}, lambda world: {"name": "Renamed"}),
    "access/member/{member}/set_password/": ({}, lambda world: {"new_password": NEW, "same_password": NEW}),
    "access/member/{member}/change_role/": ({}, lambda world: {"role": "manager"}),
    "access/member/{member}/take_out/": ({}, lambda world: {}),
    "access/member/{member}/let_in/": ({"member": "gone"}, lambda world: {}),
    "access/member/{member}/new_link/": ({"member": "invited"}, lambda world: {}),
    "access/member/{member}/withdraw/": ({"member": "invited"}, lambda world: {}),
    "access/member/{member}/end_sessions/": ({}, lambda world: {}),
    "access/member/{member}/reset_factors/": ({}, lambda world: {}),
    "account/sessions/end-others/": ({}, lambda world: {}),
    "access/accesskey/add/": ({}, lambda world: {"name": "made"}),
    "access/accesskey/{access_key}/change/": ({"access_key": "own"}, lambda world: {"name": "renamed"}),
    "access/accesskey/{access_key}/revoke/": ({}, lambda world: {}),
    "webhooks/webhookendpoint/add/": ({}, lambda world: {"name": "made", "url": "https://8.8.8.8/"}),
    "webhooks/webhookendpoint/{endpoint}/change/": ({}, lambda world: {"name": "renamed"}),
    "webhooks/webhookendpoint/{endpoint}/send_test/": ({}, lambda world: {}),
    "webhooks/webhookendpoint/{endpoint}/rotate_secret/": ({}, lambda world: {}),
    "webhooks/webhookendpoint/{endpoint}/redeliver/": ({}, lambda world: {}),
    "webhooks/webhookendpoint/{endpoint}/enable/": ({"endpoint": "paused"}, lambda world: {}),
    "webhooks/webhookendpoint/{endpoint}/disable/": ({}, lambda world: {}),
    "webhooks/delivery/{delivery}/send_again/": ({}, lambda world: {}),
}
APART: Final = {"login/", "logout/"}
# They take an authenticator, or a sign-in that is half done: not tried here.
WITH_A_DEVICE: Final = {
    *("login/second-factor/", "login/passkey/", "confirm/"),
    *("account/authenticator/", "account/passkeys/add/", "account/recovery-codes/"),
}


def console_call(client: Client, address: str, world: World) -> Callable[[], Any]:
    instead, given = CHANGES[address]
    path = "/admin/" + address.format(
        **{name: getattr(world[instead.get(name, name)], "pk", "") for name in re.findall(r"\{(\w+)\}", address)}
    )
    body = given(world)
    if "hygiene" in address:
        body = {**body, "group": world["group"].pk} if "group" in body else body
        page = client.post(path, {**body, "step": "preview"})
    else:
        page = client.get(path)
    sent = body if address in {"keys/gatewaykey/"} else filled(page, **{**SENT, **body})
    cookies = client.cookies.output()

    def call() -> Any:
        # The first time may have given the browser another session, which was undone.
        client.cookies.clear()
        client.cookies.load(cookies.replace("Set-Cookie:", ""))
        return client.post(path, sent)

    return call


def test_every_address_of_the_console_fails_closed(browser: BrowserOf, admin: Member, world: World) -> None:
    client = browser(admin)
    client.raise_request_exception = False
    wrong = {}
    for address in CHANGES.keys() - NOT_AUDITED:
        client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
        wrong[address] = tried(console_call(client, address, world), claims="hygiene" in address)
    assert not any(wrong.values()), "\n".join(f"{address}: {why}" for address, why in wrong.items() if why)


def test_every_address_that_changes_something_is_tried() -> None:
    posts = {address for address, (_, answers) in CONSOLE_MATRIX.items() if answers[0] not in {403, 404, 405}}
    assert posts == CHANGES.keys() | NO_CHANGE | APART | WITH_A_DEVICE


def test_signing_in_out_and_joining_fail_closed(admin: Member, world: World) -> None:
    def signing_in(password: str) -> Callable[[], Any]:
        return lambda: Client(raise_request_exception=False).post(
            "/admin/login/", {"username": admin.username, "password": password}
        )

    def signing_out() -> Any:
        client = Client(raise_request_exception=False)
        client.cookies.load(cookies)
        return client.post("/admin/logout/")

    def joining() -> Any:
        sent = {"secret": world["secret"], "new_password": NEW, "same_password": NEW}
        return Client(raise_request_exception=False).post("/join/", sent)

    signed_in = Client()
    signed_in.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    cookies = signed_in.cookies.output().replace("Set-Cookie:", "")
    for do in (signing_in(PASSWORD), signing_in("wrong"), joining, signing_out):
        assert tried(do) == "", do


# --- what is recorded beside changes ----------------------------------------------------------------------------------


def test_sign_in_out_and_failure_refusals_exports_and_roles_are_recorded(
    api: ApiOf, browser: BrowserOf, admin: Member, auditor: Member, world: World
) -> None:
    visitor = Client()
    visitor.post("/admin/login/", {"username": auditor.username, "password": "wrong"})
    visitor.post("/admin/login/", {"username": auditor.username, "password": PASSWORD})
    visitor.post("/admin/logout/")
    key = world["key"].pk
    api(auditor).post(f"/api/v1/gateway-keys/{key}/revoke/", {})
    browser(auditor).post(f"/admin/keys/gatewaykey/{key}/rotate/", SENT)
    for name in ("gateway-keys", "usage-events", "audit-entries"):
        b"".join(api(auditor).get(f"/api/v1/{name}/export.csv"))  # read to its end, or it takes a place
    client = browser(admin)
    path = f"/admin/access/member/{auditor.pk}/change_role/"
    client.post(path, filled(client.get(path), role="manager"))
    found = set(AuditEntry.objects.values_list("action", "actor_label"))
    assert {
        ("session.sign_in_failed", "amy.auditor"),
        ("session.signed_in", "amy.auditor"),
        ("session.signed_out", "amy.auditor"),
        ("gateway_key.revoke_refused", "amy.auditor"),
        ("gateway_key.rotate_refused", "amy.auditor"),
        ("gateway_key.exported", "amy.auditor"),
        ("usage.exported", "amy.auditor"),
        ("audit.exported", "amy.auditor"),
        ("member.role_changed", "ada.admin"),
    } <= found

"""One rule book: what each role is answered at every address of the console. An address that is not here fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver

from access.models import Member
from access.rules import PERMISSIONS, Role
from access.tokens import TokenKind
from audit.models import AuditEntry
from tests.factories import make_access_key, make_gateway, make_group, make_key, make_member
from tests.fixtures import BrowserOf
from tests.pages import SENT
from tests.usage.test_console import make_event
from tests.webhooks.makers import make_delivery

pytestmark = pytest.mark.django_db
ROLES: Final = [Role.ADMIN, Role.MANAGER, Role.AUDITOR]

type Answers = tuple[int, int, int]

EVERYONE: Final = (200, 200, 200)
NOBODY: Final = (403, 403, 403)
MOVED: Final = (302, 302, 302)
ABSENT: Final = (404, 404, 404)
NO_SUCH_METHOD: Final = (405, 405, 405)
ADMINS: Final = (200, 403, 403)
CHANGERS: Final = (200, 200, 403)
# Somebody else's access key, and a member: to others than Admins there is none.
ADMINS_SEE: Final = (200, 404, 404)

# No second factor is awaited in this browser, or none was shown.
TO_SIGN_IN: Final[Any] = ("sign in", "sign in", "sign in")

# address -> the answers to Admin, Manager and Auditor, on GET and on POST. Strangers: always to sign-in.
# {key} and {gateway} are of a group that the Manager manages, {access_key} is somebody else's.
MATRIX: Final[dict[str, tuple[Answers, Answers]]] = {
    "": (EVERYONE, EVERYONE),
    "login/": (MOVED, EVERYONE),
    "logout/": (NO_SUCH_METHOD, EVERYONE),
    "login/second-factor/": (TO_SIGN_IN, TO_SIGN_IN),
    "login/passkey/": (NO_SUCH_METHOD, TO_SIGN_IN),
    "passkey-options/": (EVERYONE, NO_SUCH_METHOD),
    # No provider is set up.
    "login/oidc/": (ABSENT, NO_SUCH_METHOD),
    "login/oidc/callback/": (ABSENT, NO_SUCH_METHOD),
    "confirm/": (EVERYONE, EVERYONE),
    "account/": (EVERYONE, EVERYONE),
    "account/authenticator/": (EVERYONE, MOVED),
    "account/passkeys/add/": (EVERYONE, EVERYONE),
    # Second factors and sessions are one's own: there is none with this id.
    "account/factors/{member}/remove/": (NO_SUCH_METHOD, ABSENT),
    "account/recovery-codes/": (NO_SUCH_METHOD, MOVED),
    "account/sessions/{key}/end/": (NO_SUCH_METHOD, ABSENT),
    "account/sessions/end-others/": (NO_SUCH_METHOD, MOVED),
    "preferences/": (EVERYONE, EVERYONE),
    "hygiene/": (EVERYONE, EVERYONE),
    "hygiene/set-expiry/": (CHANGERS, CHANGERS),
    "hygiene/owner/": (CHANGERS, CHANGERS),
    "hygiene/scope/": (CHANGERS, CHANGERS),
    "hygiene/align/": (CHANGERS, CHANGERS),
    # Without the state that the form was filled with nothing is saved: the form again.
    "policy/": (EVERYONE, (200, 403, 403)),
    "hygiene/end-grace/": (CHANGERS, CHANGERS),
    "hygiene/disable/": (CHANGERS, CHANGERS),
    "hygiene/revoke/": (CHANGERS, CHANGERS),
    # Nobody has sent a form with this token.
    "hygiene/result/{key}/": (ABSENT, ABSENT),
    "reports/": (EVERYONE, NO_SUCH_METHOD),
    "reports/access-review/": (EVERYONE, NO_SUCH_METHOD),
    "reports/rotation-compliance/": (EVERYONE, NO_SUCH_METHOD),
    "find-a-key/": (EVERYONE, EVERYONE),
    "find-a-key/{key}/revoke/": (CHANGERS, CHANGERS),
    "find-a-key/{key}/after/": (EVERYONE, EVERYONE),
    "why-refused/": (EVERYONE, MOVED),
    "why-refused/{denial}/": (EVERYONE, EVERYONE),
    "password_change/": (EVERYONE, EVERYONE),
    "password_change/done/": (EVERYONE, NO_SUCH_METHOD),
    "search/": (EVERYONE, EVERYONE),
    "jsi18n/": (EVERYONE, NO_SUCH_METHOD),
    "autocomplete/": (ABSENT, ABSENT),
    "keys/": (EVERYONE, EVERYONE),
    "no/such/page/": (ABSENT, ABSENT),
    "keys/gatewaykey/": (EVERYONE, EVERYONE),
    "keys/gatewaykey/export/": (EVERYONE, EVERYONE),
    "keys/gatewaykey/create/": ((302, 302, 403), (302, 302, 403)),
    "keys/gatewaykey/add/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/change/": (EVERYONE, CHANGERS),
    "keys/gatewaykey/{key}/edit/": (MOVED, MOVED),
    "keys/gatewaykey/{key}/rotate/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/end_grace/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/extend_grace/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/disable/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/enable/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/revoke/": (CHANGERS, CHANGERS),
    "keys/gatewaykey/{key}/cutover/": (EVERYONE, EVERYONE),
    "keys/gatewaykey/{key}/denials/": (EVERYONE, EVERYONE),
    "attention/": (EVERYONE, EVERYONE),
    "keys/gatewaykey/{key}/replace/": ((405, 405, 403), (302, 302, 403)),
    "keys/gatewaykey/{key}/history/": (ABSENT, ABSENT),
    "keys/gatewaykey/{key}/delete/": (NOBODY, NOBODY),
    "keys/gatewaykey/{key}/": (MOVED, MOVED),
    "keys/consumergroup/": (EVERYONE, EVERYONE),
    "keys/consumergroup/create/": ((302, 403, 403), (302, 403, 403)),
    "keys/consumergroup/add/": (ADMINS, ADMINS),
    "keys/consumergroup/{group}/change/": (EVERYONE, ADMINS),
    "keys/consumergroup/{group}/history/": (ABSENT, ABSENT),
    "keys/consumergroup/{group}/delete/": (NOBODY, NOBODY),
    "keys/consumergroup/{group}/": (MOVED, MOVED),
    "gateways/gateway/": (EVERYONE, EVERYONE),
    "gateways/gateway/create/": ((302, 403, 403), (302, 403, 403)),
    "gateways/gateway/add/": (ADMINS, ADMINS),
    "gateways/gateway/{gateway}/change/": (EVERYONE, ADMINS),
    "gateways/gateway/{gateway}/rotate_token/": (ADMINS, ADMINS),
    "gateways/gateway/{gateway}/history/": (ABSENT, ABSENT),
    "gateways/gateway/{gateway}/delete/": (NOBODY, NOBODY),
    "gateways/gateway/{gateway}/": (MOVED, MOVED),
    "usage/usageevent/": (EVERYONE, EVERYONE),
    "usage/usageevent/export/": (EVERYONE, EVERYONE),
    "usage/usageevent/export-days/": (MOVED, MOVED),
    "usage/usageevent/add/": (NOBODY, NOBODY),
    "usage/usageevent/{event}/change/": (EVERYONE, NOBODY),
    "usage/usageevent/{event}/history/": (ABSENT, ABSENT),
    "usage/usageevent/{event}/delete/": (NOBODY, NOBODY),
    "usage/usageevent/{event}/": (MOVED, MOVED),
    "audit/auditentry/": (EVERYONE, EVERYONE),
    "audit/auditentry/verify/": ((200, 403, 200), (200, 403, 200)),
    "audit/auditentry/export/": ((200, 403, 200), (200, 403, 200)),
    # Nothing is sealed: back to the list, which says so.
    "audit/auditentry/evidence/": ((302, 403, 302), (302, 403, 302)),
    "audit/auditentry/add/": (NOBODY, NOBODY),
    "audit/auditentry/{entry}/change/": (EVERYONE, NOBODY),
    "audit/auditentry/{entry}/history/": (ABSENT, ABSENT),
    "audit/auditentry/{entry}/delete/": (NOBODY, NOBODY),
    "audit/auditentry/{entry}/": (MOVED, MOVED),
    "webhooks/webhookendpoint/": (ADMINS, ADMINS),
    "webhooks/webhookendpoint/create/": ((302, 403, 403), (302, 403, 403)),
    "webhooks/webhookendpoint/add/": (ADMINS, ADMINS),
    "webhooks/webhookendpoint/{endpoint}/change/": (ADMINS, ADMINS),
    "webhooks/webhookendpoint/{endpoint}/send_test/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/webhookendpoint/{endpoint}/rotate_secret/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/webhookendpoint/{endpoint}/redeliver/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/webhookendpoint/{endpoint}/enable/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/webhookendpoint/{endpoint}/disable/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/webhookendpoint/{endpoint}/history/": (ABSENT, ABSENT),
    "webhooks/webhookendpoint/{endpoint}/delete/": (NOBODY, NOBODY),
    "webhooks/webhookendpoint/{endpoint}/": (MOVED, MOVED),
    "webhooks/delivery/": (ADMINS, ADMINS),
    "webhooks/delivery/add/": (NOBODY, NOBODY),
    "webhooks/delivery/{delivery}/change/": (ADMINS, NOBODY),
    "webhooks/delivery/{delivery}/send_again/": (ADMINS_SEE, ADMINS_SEE),
    "webhooks/delivery/{delivery}/history/": (ABSENT, ABSENT),
    "webhooks/delivery/{delivery}/delete/": (NOBODY, NOBODY),
    "webhooks/delivery/{delivery}/": (MOVED, MOVED),
    "access/member/": (ADMINS, ADMINS),
    "access/member/create/": ((302, 403, 403), (302, 403, 403)),
    "access/member/add/": (ADMINS, ADMINS),
    "access/member/{member}/change/": (ADMINS, ADMINS),
    "access/member/{member}/set_password/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/change_role/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/take_out/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/let_in/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/new_link/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/withdraw/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/end_sessions/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/reset_factors/": (ADMINS_SEE, ADMINS_SEE),
    "access/member/{member}/history/": (ABSENT, ABSENT),
    "access/member/{member}/delete/": (NOBODY, NOBODY),
    "access/member/{member}/": (MOVED, MOVED),
    "access/accesskey/": (EVERYONE, EVERYONE),
    "access/accesskey/create/": (MOVED, MOVED),
    "access/accesskey/add/": (EVERYONE, EVERYONE),
    "access/accesskey/{access_key}/change/": (ADMINS_SEE, ADMINS_SEE),
    "access/accesskey/{access_key}/revoke/": (ADMINS_SEE, ADMINS_SEE),
    "access/accesskey/{access_key}/history/": (ABSENT, ABSENT),
    "access/accesskey/{access_key}/delete/": (NOBODY, NOBODY),
    "access/accesskey/{access_key}/": (MOVED, MOVED),
}


# What belongs to signing in answers strangers too.
STRANGERS: Final[dict[str, dict[str, Any]]] = {
    "GET": {"login/passkey/": 405, "passkey-options/": 200, "login/oidc/": 404, "login/oidc/callback/": 404},
    "POST": {"passkey-options/": 405, "login/oidc/": 405, "login/oidc/callback/": 405},
}


@pytest.fixture
def world(manager: Member) -> dict[str, Any]:
    """One of everything that an address names, of a group that the Manager manages."""
    group = make_group("payments", managers=[manager])
    issued = make_key(consumer_group=group)
    gateway = make_gateway(consumer_groups=[group]).gateway
    somebody = make_member(Role.AUDITOR)
    delivery = make_delivery(issued.key)
    return {
        "group": group,
        "key": issued.key,
        "gateway": gateway,
        "event": make_event(gateway, issued),
        "denial": make_event(gateway, issued, reason="grace_over"),
        "endpoint": delivery.endpoint,
        "delivery": delivery,
        "member": somebody,
        "access_key": make_access_key(somebody).access_key,
        "entry": AuditEntry.objects.get(object_type="gateway_key"),
    }


def call(client: Client, method: str, address: str, world: dict[str, Any]) -> Any:
    path = "/admin/" + address.format(**{name: obj.pk for name, obj in world.items()})
    return client.get(path) if method == "GET" else client.post(path, SENT)


def answers(client: Client, method: str, world: dict[str, Any]) -> dict[str, Any]:
    """Return what is answered at every address of the matrix, each asked of the same world.

    A status, or that something was changed by who was refused.
    """
    client.raise_request_exception = False
    cookies = client.cookies.output()
    found: dict[str, Any] = {}
    before = _everything()
    for address in MATRIX:
        client.cookies.load(cookies.replace("Set-Cookie:", ""))
        # What the answer changed is undone, so that the next one finds the same world.
        with transaction.atomic():
            response = call(client, method, address, world)
            found[address] = response.status_code
            if response.status_code == 302 and "/admin/login/" in response.headers["Location"]:
                found[address] = "sign in"
            if found[address] in {403, 404, 405, "sign in"} and _everything() != before:
                found[address] = f"{found[address]}, and yet something was changed"
            transaction.set_rollback(True)
    return found


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_what_the_matrix_says(
    browser: BrowserOf, world: dict[str, Any], admin: Member, manager: Member, auditor: Member, role: str, method: str
) -> None:
    number = [Role.ADMIN, Role.MANAGER, Role.AUDITOR].index(Role(role))
    client = browser((admin, manager, auditor)[number])
    expected = {address: row[method == "POST"][number] for address, row in MATRIX.items()}
    assert answers(client, method, world) == expected


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_is_sent_to_sign_in(client: Client, world: dict[str, Any], method: str) -> None:
    expected: dict[str, Any] = dict.fromkeys(MATRIX, "sign in")
    expected |= {"login/": 200, "logout/": 302, **STRANGERS[method]}
    assert answers(client, method, world) == expected


def test_the_matrix_has_every_address() -> None:
    covered = {re.sub(r"\{\w+\}", "{}", address) for address in MATRIX}
    missing = {address for address in _addresses(admin.site.get_urls()) if address not in covered}
    assert missing == set()


def test_members_taken_out_get_nothing(browser: BrowserOf, admin: Member) -> None:
    client = browser(admin)
    Member.objects.filter(pk=admin.pk).update(is_active=False)
    assert client.get("/admin/keys/gatewaykey/").status_code == 302


@pytest.mark.parametrize("role", ROLES)
def test_nothing_can_be_deleted(browser: BrowserOf, world: dict[str, Any], role: str, manager: Member) -> None:
    client = browser(manager if role == Role.MANAGER else make_member(role))
    before = {model: set(model._default_manager.values_list("pk", flat=True)) for model in _models()}
    for obj in world.values():
        opts = obj._meta
        place = f"/admin/{opts.app_label}/{opts.model_name}/"
        for path in (f"{place}{obj.pk}/delete/", f"{place}{obj.pk}/change/", place):
            assert client.delete(path).status_code in {200, 403, 404, 405}
        assert client.post(f"{place}{obj.pk}/delete/", {"post": "yes"}).status_code == 403
        chosen = {"action": "delete_selected", "_selected_action": [str(obj.pk)], "post": "yes"}
        answer = client.post(place, chosen)
        assert answer.status_code in {200, 302, 403}
        assert "delete_selected" not in client.get(place).content.decode()
    for model, kept in before.items():
        assert kept <= set(model._default_manager.values_list("pk", flat=True)), model


def test_every_permission_of_the_screens_is_in_the_rule_book() -> None:
    for model in admin.site._registry:
        assert f"{model._meta.app_label}.view_{model._meta.model_name}" in PERMISSIONS


def test_no_screen_shows_a_secret_or_a_digest(browser: BrowserOf, world: dict[str, Any], admin: Member) -> None:
    client = browser(admin)
    client.raise_request_exception = False
    shape = re.compile(rf"(?:{'|'.join(TokenKind)})[a-z0-9]{{32}}")
    digests = [
        bytes(digest).hex()
        for model in (world["key"].versions.model, world["gateway"].tokens.model, type(world["access_key"]))
        for digest in model.objects.values_list("digest", flat=True)
    ]
    for address in MATRIX:
        if "logout" in address:
            continue
        page = response_text(call(client, "GET", address, world))
        assert not shape.search(page), address
        assert not any(digest in page for digest in digests), address


def response_text(response: Any) -> str:
    content: bytes = response.getvalue() if response.streaming else response.content
    return content.decode()


def _addresses(patterns: list[Any], place: str = "") -> Iterator[str]:
    """Yield every address of the console as the matrix writes it, with {} for an object."""
    for pattern in patterns:
        text = str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _addresses(pattern.url_patterns, place + text)
        elif isinstance(pattern, URLPattern):
            if pattern.name == "app_list":
                text = "keys/"
            elif pattern.name is None and text.startswith("(?P<url>"):
                text = "no/such/page/"
            yield re.sub(r"<(path|uuid|int|slug):\w+>", "{}", place + text)


def _models() -> list[type[Model]]:
    return [
        model
        for app in ("audit", "access", "keys", "gateways", "usage", "webhooks")
        for model in apps.get_app_config(app).get_models()
    ]


def _everything() -> dict[str, Any]:
    """Return what no refused request may change: every row but the log's, where refusals are recorded."""
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in _models()
        if model._meta.app_label != "audit"
    }

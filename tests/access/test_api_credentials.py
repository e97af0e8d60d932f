"""Who comes in, by which credential; and the API of access keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from rest_framework.test import APIClient

from access.access_keys import revoke_access_key
from access.members import edit_member
from access.models import AccessKey, Member
from audit import clock
from audit.models import AuditEntry
from tests.factories import TESTS, make_access_key, make_key, make_member
from tests.fixtures import ApiOf

pytestmark = pytest.mark.django_db
ME = "/api/v1/me/"
ACCESS_KEYS = "/api/v1/access-keys/"


def bearer(value: str) -> Any:
    return {"HTTP_AUTHORIZATION": f"Bearer {value}"}


def test_without_credential_the_challenge_names_no_error(stranger_api: APIClient) -> None:
    answer = stranger_api.get(ME)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="keeptrusts"'
    assert answer.json() == {
        "code": "not_authenticated",
        "detail": "Authentication credentials were not provided.",
        "fields": {},
    }


@pytest.mark.parametrize("value", ["", "kt_ak_", "kt_ak_" + "a" * 32, "é" * 20, "a b c", "x" * 5_000])
def test_what_is_no_access_key_is_an_invalid_token(stranger_api: APIClient, value: str) -> None:
    answer = stranger_api.get(ME, **bearer(value))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_a_gateway_key_is_no_access_key(stranger_api: APIClient) -> None:
    assert stranger_api.get(ME, **bearer(make_key().value)).status_code == 401


def test_the_scheme_may_be_written_in_any_case(stranger_api: APIClient, admin: Member) -> None:
    value = make_access_key(admin).value
    assert stranger_api.get(ME, HTTP_AUTHORIZATION=f"bearer {value}").status_code == 200


def test_an_access_key_ends_with_revocation_expiry_and_its_owner(stranger_api: APIClient) -> None:
    owner = make_member("auditor")
    revoked, expiring, orphaned = (
        make_access_key(owner),
        make_access_key(owner, expires_at=clock.now() + timedelta(hours=1)),
        make_access_key(owner),
    )
    revoke_access_key(actor=TESTS, access_key_id=revoked.access_key.pk)
    assert stranger_api.get(ME, **bearer(revoked.value)).status_code == 401
    assert stranger_api.get(ME, **bearer(expiring.value)).status_code == 200
    with time_machine.travel(clock.now() + timedelta(hours=1)):
        assert stranger_api.get(ME, **bearer(expiring.value)).status_code == 401
    edit_member(actor=TESTS, member_id=owner.pk, changed={"is_active": False})
    assert stranger_api.get(ME, **bearer(orphaned.value)).status_code == 401


def test_me_says_who_calls_and_by_which_credential(admin_api: APIClient, client: Client, admin: Member) -> None:
    me = admin_api.get(ME).json()
    assert {**me, "credential": "", "access_key": None} == {
        "username": "ada.admin",
        "name": "",
        "role": "admin",
        "email": "",
        "time_zone": "UTC",
        "notice_mail": "important",
        "credential": "",
        "access_key": None,
    }
    assert me["credential"].startswith("access key tests (kt_ak_")
    assert (me["access_key"]["name"], me["access_key"]["read_only"]) == ("tests", False)
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    signed_in = client.get(ME).json()
    assert (signed_in["credential"], signed_in["access_key"]) == ("session", None)


def test_a_session_changes_nothing_without_the_csrf_token(admin: Member) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    answer = browser.post(ACCESS_KEYS, {"name": "x"}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert not AccessKey.objects.exists()


def test_an_access_key_is_made_for_oneself_and_its_value_shown_once(auditor_api: APIClient) -> None:
    answer = auditor_api.post(ACCESS_KEYS, {"name": "terraform"})
    made = answer.json()
    assert answer.status_code == 201
    assert made["owner"] == "amy.auditor"
    assert made["status"] == "active"
    assert answer["Cache-Control"] == "no-store"
    shown = auditor_api.get(f"{ACCESS_KEYS}{made['id']}/").json()
    assert "value" not in shown
    assert made["value"] not in str(shown)
    assert APIClient().get(ME, **bearer(made["value"])).json()["username"] == "amy.auditor"


def test_members_see_their_own_access_keys_and_admins_all(api: ApiOf, admin: Member, auditor: Member) -> None:
    admins, auditors = api(admin), api(auditor)
    assert auditors.get(ACCESS_KEYS).json()["count"] == 1
    assert admins.get(ACCESS_KEYS).json()["count"] == 2
    assert admins.get(ACCESS_KEYS, {"owner": auditor.username}).json()["count"] == 1
    foreign = AccessKey.objects.get(owner=admin)
    assert auditors.post(f"{ACCESS_KEYS}{foreign.pk}/revoke/").status_code == 404
    own = AccessKey.objects.get(owner=auditor)
    assert admins.post(f"{ACCESS_KEYS}{own.pk}/revoke/").json()["status"] == "revoked"
    assert auditors.get(ACCESS_KEYS).status_code == 401
    assert AuditEntry.objects.get(action="access_key.revoked").actor_label == admin.username


def test_an_expiry_in_the_past_is_refused_by_name(admin_api: APIClient) -> None:
    answer = admin_api.post(ACCESS_KEYS, {"name": "late", "expires_at": "2020-01-01T00:00:00Z"})
    assert answer.status_code == 400
    assert answer.json()["fields"] == {"expires_at": [{"code": "in_the_past", "detail": "This lies in the past."}]}

"""Members through the API: as in the console, by the same rules."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from access.invitations import accept_invitation
from access.models import IdempotencyRecord, Invitation, Member
from audit.models import AuditEntry
from tests.factories import PASSWORD, make_group, make_member

pytestmark = pytest.mark.django_db
MEMBERS = "/api/v1/members/"


def test_an_invitation_shows_its_link_once_and_lets_its_holder_in(admin_api: APIClient) -> None:
    sent = {"username": "olga", "role": "manager", "email": "olga@example.org"}
    made = admin_api.post(MEMBERS, sent, HTTP_IDEMPOTENCY_KEY="k")
    assert (made.status_code, made["Cache-Control"], made.json()["state"]) == (201, "no-store", "invited")
    page, _, secret = made.json()["link"].partition("#")
    assert page.endswith("/join/")
    again = admin_api.post(MEMBERS, sent, HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()["code"], again.json()["id"]) == (
        409,
        "already_processed",
        made.json()["id"],
    )
    assert secret not in str(list(IdempotencyRecord.objects.values_list("body", flat=True)))
    assert secret not in str(list(AuditEntry.objects.values()))
    accept_invitation(secret=secret, password=PASSWORD, ip=None)
    assert admin_api.get(f"{MEMBERS}{made.json()['id']}/").json()["state"] == "active"
    assert admin_api.post(f"{MEMBERS}{made.json()['id']}/invite-again/").json()["code"] == "already_joined"


def test_an_invited_manager_manages_the_groups_that_were_named_once_they_have_joined(admin_api: APIClient) -> None:
    group = make_group("payments")
    sent = {"username": "olga", "role": "manager", "groups": ["payments"]}
    link = admin_api.post(MEMBERS, sent).json()["link"]
    assert not group.managers.exists()
    accept_invitation(secret=link.partition("#")[2], password=PASSWORD, ip=None)
    assert [member.username for member in group.managers.all()] == ["olga"]
    for wrong, code in ((["nowhere"], "does_not_exist"), ("payments", "not_a_list")):
        answer = admin_api.post(MEMBERS, {**sent, "username": "other", "groups": wrong})
        assert answer.json()["fields"]["groups"][0]["code"] == code
    refused = admin_api.post(MEMBERS, {"username": "amy", "role": "auditor", "groups": ["payments"]})
    assert refused.json()["fields"]["groups"][0]["code"] == "not_a_manager"


def test_another_link_ends_the_first_and_withdrawn_there_is_none(admin_api: APIClient) -> None:
    made = admin_api.post(MEMBERS, {"username": "olga", "role": "auditor"}).json()
    again = admin_api.post(f"{MEMBERS}{made['id']}/invite-again/")
    assert (again.status_code, again.json()["link"] == made["link"]) == (200, False)
    assert Invitation.objects.filter(withdrawn_at__isnull=True).count() == 1
    assert admin_api.post(f"{MEMBERS}{made['id']}/withdraw-invitation/").status_code == 200
    assert not Invitation.objects.filter(withdrawn_at__isnull=True).exists()


def test_a_member_gets_another_role_is_taken_out_and_let_in_again(admin_api: APIClient, manager: Member) -> None:
    page = f"{MEMBERS}{manager.pk}/"
    assert admin_api.patch(page, {"role": "auditor", "name": "Max"}).json()["role"] == "auditor"
    assert admin_api.post(f"{page}take-out/").json()["state"] == "out"
    assert admin_api.get(f"{MEMBERS}?state=out").json()["results"][0]["username"] == manager.username
    assert admin_api.post(f"{page}let-in/").json()["state"] == "active"
    actions = AuditEntry.objects.filter(object_type="member", object_id=str(manager.pk)).values_list(
        "action", flat=True
    )
    assert {"member.role_changed", "member.edited", "member.deactivated", "member.reactivated"} <= set(actions)


def test_the_last_admin_stays(admin_api: APIClient, admin: Member) -> None:
    refused = admin_api.post(f"{MEMBERS}{admin.pk}/take-out/")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    assert admin_api.patch(f"{MEMBERS}{admin.pk}/", {"role": "auditor"}).json()["code"] == "last_admin"


def test_of_two_editors_of_a_member_the_slower_is_refused(admin_api: APIClient, manager: Member) -> None:
    page = f"{MEMBERS}{manager.pk}/"
    tag = admin_api.get(page)["ETag"]
    assert admin_api.patch(page, {"name": "a"}, HTTP_IF_MATCH=tag).status_code == 200
    assert admin_api.patch(page, {"name": "b"}, HTTP_IF_MATCH=tag).status_code == 412
    assert admin_api.post(f"{page}take-out/", HTTP_IF_MATCH=tag).status_code == 412
    assert Member.objects.get(pk=manager.pk).is_active


@pytest.mark.parametrize("state", ["active", "invited", "out"])
def test_the_list_is_narrowed_by_state(state: str, admin_api: APIClient, admin: Member) -> None:
    out = make_member("manager", username="out")
    admin_api.post(f"{MEMBERS}{out.pk}/take-out/")
    admin_api.post(MEMBERS, {"username": "invited", "role": "auditor"})
    found = [member["username"] for member in admin_api.get(f"{MEMBERS}?state={state}").json()["results"]]
    assert found == [{"active": admin.username}.get(state, state)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "auditor"}, "username"),
        ({"username": "x", "role": "chief"}, "role"),
        ({"username": "a b", "role": "auditor"}, "username"),
        ({"username": "ada.admin", "role": "auditor"}, "username"),
        ({"username": "x", "role": "auditor", "password": "p"}, "password"),
    ],
)
def test_an_invitation_that_does_not_fit_is_refused_at_its_field(
    body: dict[str, str], field: str, admin_api: APIClient
) -> None:
    refused = admin_api.post(MEMBERS, body)
    assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])

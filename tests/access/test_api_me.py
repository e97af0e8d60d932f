"""Who calls, and what they want for themselves, over the API."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from access.models import Member
from audit.models import AuditEntry
from tests.factories import make_access_key, make_group

pytestmark = pytest.mark.django_db
ME = "/api/v1/me/"


def test_everybody_sets_their_own_preferences(auditor_api: APIClient, auditor: Member) -> None:
    answer = auditor_api.patch(ME, {"time_zone": "Asia/Kolkata", "notice_mail": "all"})
    assert answer.status_code == 200
    assert (answer.json()["time_zone"], answer.json()["notice_mail"]) == ("Asia/Kolkata", "all")
    assert auditor_api.get(ME).json()["time_zone"] == "Asia/Kolkata"
    auditor_api.patch(ME, {"time_zone": "Asia/Kolkata"})
    entry = AuditEntry.objects.get(action="member.edited")
    assert entry.after == {"time_zone": "Asia/Kolkata", "notice_mail": "all"}
    assert (entry.actor_id, entry.object_id) == (str(auditor.pk), str(auditor.pk))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("time_zone", value) for value in ("../etc/passwd", "", None, 1, ["UTC"], "Middle/Earth")],
        *[("notice_mail", value) for value in ("some", "", None, 1)],
        *[(field, "x") for field in ("role", "username", "email", "is_active")],
    ],
)
def test_what_is_no_preference_is_refused_at_its_field(field: str, value: Any, manager_api: APIClient) -> None:
    answer = manager_api.patch(ME, {field: value})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [field]


@pytest.mark.parametrize("limits", [{"read_only": True}, {"consumer_groups": ["payments"]}])
def test_an_access_key_that_is_held_to_less_sets_nothing(limits: dict[str, Any], admin: Member) -> None:
    make_group("payments")
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {make_access_key(admin, **limits).value}")
    answer = client.patch(ME, {"notice_mail": "none"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert AuditEntry.objects.filter(action="member.edit_refused", actor_id=str(admin.pk)).count() == 1
    admin.refresh_from_db()
    assert admin.notice_mail == "important"

"""The zone in which a member is shown times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.utils import timezone

from access.members import set_preferences
from access.models import Member
from access.refusals import Forbidden
from audit.actions import AuditAction
from audit.models import AuditEntry
from audit.moments import moment, stamp, zone
from keys.models import GatewayKey
from tests.factories import actor_of, make_key
from tests.fixtures import ApiOf, BrowserOf
from tests.pages import main_of

pytestmark = pytest.mark.django_db
AT = datetime(2030, 7, 1, 12, 30, 5, tzinfo=UTC)


def test_a_time_says_its_zone_and_the_exact_utc_on_hover() -> None:
    assert stamp(AT) == "2030-07-01 12:30 UTC"
    with timezone.override("Europe/Berlin"):
        assert stamp(AT, seconds=True) == "2030-07-01 14:30:05 CEST"
        assert 'title="2030-07-01 12:30:05 UTC"' in moment(AT)
    with timezone.override("America/Sao_Paulo"):
        assert stamp(AT) == "2030-07-01 09:30 UTC-03"
        assert zone(AT) == "UTC-03"


def test_pages_show_times_in_the_members_zone_and_nobody_elses(
    browser: BrowserOf, admin: Member, auditor: Member
) -> None:
    with time_machine.travel(AT, tick=False):
        make_key("billing")
    client = browser(admin)
    answer = client.post("/admin/preferences/", {"time_zone": "Asia/Kolkata"}, follow=True)
    assert "Asia/Kolkata from now on" in main_of(answer)
    assert "2030-07-01 18:00 IST" in main_of(client.get("/admin/keys/gatewaykey/"))
    assert "2030-07-01 12:30 UTC" in main_of(browser(auditor).get("/admin/keys/gatewaykey/"))
    entry = AuditEntry.objects.get(action=AuditAction.MEMBER_EDITED)
    assert (entry.before, entry.after) == ({"time_zone": "UTC"}, {"time_zone": "Asia/Kolkata"})


def test_the_api_speaks_utc_to_everybody(api: ApiOf, browser: BrowserOf, admin: Member) -> None:
    make_key("billing")
    set_preferences(actor=actor_of(admin), member_id=admin.pk, changed={"time_zone": "Asia/Kolkata"})
    for client in (api(admin), browser(admin)):
        (key,) = client.get("/api/v1/gateway-keys/").json()["results"]
        assert key["created_at"].endswith("Z")


def test_a_chosen_day_ends_where_the_member_lives(browser: BrowserOf, admin: Member) -> None:
    set_preferences(actor=actor_of(admin), member_id=admin.pk, changed={"time_zone": "Asia/Kolkata"})
    client = browser(admin)
    form = client.get("/admin/keys/gatewaykey/add/")
    assert "until the end of this day, IST" in main_of(form)
    token = form.context["adminform"].form["form_token"].value()
    sent = {"name": "billing", "expiry": "custom", "expires_on": "2031-01-31", "form_token": token}
    assert client.post("/admin/keys/gatewaykey/add/", sent).status_code == 200
    assert GatewayKey.objects.get().expires_at == datetime(2031, 1, 31, 18, 29, 59, tzinfo=UTC)


def test_what_is_no_zone_is_refused(browser: BrowserOf, admin: Member) -> None:
    with pytest.raises(ValidationError):
        set_preferences(actor=actor_of(admin), member_id=admin.pk, changed={"time_zone": "../etc/passwd"})
    answer = browser(admin).post("/admin/preferences/", {"time_zone": "Middle/Earth"})
    assert "not one of the available choices" in main_of(answer)
    admin.refresh_from_db()
    assert admin.time_zone == "UTC"


def test_nobody_chooses_for_somebody_else(admin: Member, auditor: Member) -> None:
    with pytest.raises(Forbidden):
        set_preferences(actor=actor_of(admin), member_id=auditor.pk, changed={"time_zone": "Asia/Kolkata"})

"""What the other tests rely on."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import Error, connection, transaction

from audit.actions import AuditAction
from audit.actor import Actor
from audit.models import AuditEntry
from audit.recording import Subject, record
from tests.settings import FOLDER


def record_something() -> None:
    with transaction.atomic():
        record(AuditAction.MEMBER_CREATED, Actor.system("a test"), Subject("member"))


@pytest.mark.django_db(transaction=True)
def test_a_flush_empties_the_audit_log_which_is_append_only_before_and_after() -> None:
    for _ in range(2):
        record_something()
        with pytest.raises(Error), transaction.atomic():
            AuditEntry.objects.all().delete()
        statement = {"sqlite": "DELETE FROM", "postgresql": "TRUNCATE"}[connection.vendor]
        with connection.cursor() as cursor, pytest.raises(Error):
            cursor.execute(f"{statement} {AuditEntry._meta.db_table}")
        assert AuditEntry.objects.count() == 1
        call_command("flush", interactive=False, verbosity=0)
        assert AuditEntry.objects.count() == 0


@pytest.mark.django_db
def test_the_suite_uses_a_database_and_a_folder_of_its_own() -> None:
    assert "test" in str(connection.settings_dict["NAME"])
    assert str(settings.DATA_DIR).startswith(str(FOLDER))


@pytest.mark.postgresql
def test_redis_is_real_where_the_database_is() -> None:
    cache.set("greeting", "hello")
    assert cache.get("greeting") == "hello"
    assert "RedisCache" in settings.CACHES["default"]["BACKEND"]

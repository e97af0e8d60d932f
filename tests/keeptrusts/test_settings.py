"""What the environment makes of the settings."""

from __future__ import annotations

import pytest
from django.db import connection


@pytest.mark.postgresql
@pytest.mark.django_db
def test_whoever_asks_the_database_notices_within_seconds_that_its_host_is_gone() -> None:
    connection.ensure_connection()
    parameters = connection.connection.info.get_parameters()
    idle, step, count = (int(parameters[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert idle + step * count < 15, "where nothing was sent"
    assert int(parameters["tcp_user_timeout"]) <= 15_000, "where something was sent and nobody confirms it"

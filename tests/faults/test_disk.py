"""A disk that is full, and a database that takes no writes: clear errors, 503 where it must be, nothing half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test.utils import override_settings

from gateways.models import UsageSource
from keys.models import GatewayKey
from tests.factories import make_gateway, make_key
from tests.faults.conftest import Fault
from tests.faults.plant import Plant, Web, disagreements
from tests.processes import eventually
from usage.models import KeyMetrics, UsageEvent

pytestmark = pytest.mark.timeout(900)


class Caller:
    """An Admin's script and two gateways, at one console."""

    def __init__(self, fault: Fault, web: Web, access_key: str) -> None:
        self.fault = fault
        self.web = web
        self.token, self.issued = make_gateway().value, make_key()
        self.reporter = make_gateway(usage_source=UsageSource.REPORT).value
        self.admin = {"Authorization": f"Bearer {access_key}"}
        self.allowed = 0

    def change(self) -> list[httpx.Response]:
        key = f"/api/v1/gateway-keys/{self.issued.key.pk}"
        return [
            self._post("/api/v1/gateway-keys/", {"name": "new", "description": "x" * 2_000}),
            self._post(f"{key}/rotate/", {"grace_seconds": 3_600}),
            self._post(f"{key}/disable/", {}),
            self._post("/api/v1/consumer-groups/", {"name": "new", "slug": "new"}),
        ]

    def report(self) -> httpx.Response:
        event = {"occurred_at": "", "key_id": str(self.issued.key.pk), "key_version": 1, "id": "1", "status": 200}
        from audit import clock

        event["occurred_at"] = clock.now().isoformat()
        sent = {"X-Keeptrusts-Gateway-Token": self.reporter}
        return httpx.post(f"{self.web.base}/gateway/v1/usage", json={"events": [event]}, headers=sent, timeout=60)

    def authorize(self) -> httpx.Response:
        sent = {"X-Keeptrusts-Gateway-Token": self.token, "Authorization": f"Bearer {self.issued.value}"}
        answer = httpx.get(f"{self.web.base}/gateway/v1/authorize", headers=sent, timeout=60)
        self.allowed += answer.status_code == 200
        return answer

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.web.base + path, json=body, headers=self.admin, timeout=60)


def _cannot_be_written(fault: Fault, caller: Caller, what: str) -> None:
    """Nothing is changed; whoever asked for it is told so, and to come again."""
    before = (GatewayKey.objects.count(), caller.issued.key.versions.count())
    for answer in [*caller.change(), caller.report()]:
        fault.tried += 1
        fault.expect(answer.status_code == 503, f"{what}: {answer.request.url.path} was answered {answer.status_code}")
        fault.expect(answer.headers.get("Retry-After") is not None, f"{what}: no Retry-After")
        fault.expect("Traceback" not in answer.text and len(answer.text) < 1_000, f"{what}: {answer.text[:200]}")
    answer = caller.authorize()
    fault.tried += 1
    fault.expect(answer.status_code in {200, 503}, f"{what}: authorize was answered {answer.status_code}")
    page = httpx.get(caller.web.base + "/admin/login/", timeout=60)
    fault.expect(page.status_code < 500 or page.status_code == 503, f"{what}: sign-in {page.status_code}")
    after = (GatewayKey.objects.count(), caller.issued.key.versions.count())
    fault.expect(before == after, f"{what}: {before} became {after}")


def _can_be_written(fault: Fault, caller: Caller, what: str) -> None:
    """All goes on by itself, and what was let through is counted."""
    recovered = eventually(lambda: caller.report().status_code == 200, 20)
    fault.expect(bool(recovered), f"{what}: reports are refused afterwards")
    statuses = [answer.status_code for answer in caller.change()]
    fault.expect(statuses[0] == 201, f"{what}: changes are refused afterwards: {statuses}")
    metrics = KeyMetrics.objects.filter(key=caller.issued.key)
    eventually(lambda: metrics.filter(total_requests=caller.allowed + 1).exists(), 20)
    counted = metrics.values_list("total_requests", flat=True).first()
    fault.expect(counted == caller.allowed + 1, f"{what}: {caller.allowed + 1} served, {counted} counted")


@contextmanager
def read_only_postgresql() -> Iterator[None]:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s",
                [connection.settings_dict["NAME"]],
            )
            connection.close()

"""What Prometheus reads, and who may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django.fixtures import Settings

from audit import clock
from gateways import telemetry
from gateways.models import UsageSource
from gateways.telemetry import TELEMETRY, Telemetry
from operations import processes
from operations.models import JobRun
from tests.factories import make_gateway, make_key
from tests.operations.asking import Answer, Watcher
from tests.plane import Plane, running_plane

TOKEN = "a-token-for-the-watchers"


@pytest.fixture
def token(settings: Settings, tmp_path: Path) -> str:
    settings.KEEPTRUSTS_METRICS_TOKEN = TOKEN
    settings.DATA_DIR = tmp_path
    return f"Bearer {TOKEN}"


@pytest.fixture
def plane(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    """Counts from nought."""
    fresh = Telemetry()
    for name in Telemetry.__slots__:
        monkeypatch.setattr(TELEMETRY, name, getattr(fresh, name))
    with running_plane() as plane:
        yield plane


def figures(answer: Answer) -> dict[str, float]:
    assert answer.status == 200
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_without_a_setting_there_are_none(watcher: Watcher) -> None:
    assert watcher.get("/metrics").status == 404
    assert watcher.get("/metrics", authorization="Bearer ").status == 404


@pytest.mark.parametrize("shown", ["", "Bearer a-token-for-the-watcherz", f"Basic {TOKEN}", "Bearer ", "Bearer \xff"])
def test_another_token_gets_the_same_answer_as_where_there_are_none(watcher: Watcher, token: str, shown: str) -> None:
    assert watcher.get("/metrics", authorization=shown).status == 404
    assert watcher.get("/metrics", authorization=token).status == 200


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (("127.0.0.1", 1), {}, 200),
        (("::1", 1), {}, 200),
        (("192.0.2.7", 1), {}, 404),
        (("127.0.0.1", 1), {"x_forwarded_for": "127.0.0.1"}, 404),
        (("127.0.0.1", 1), {"forwarded": "for=127.0.0.1"}, 404),
    ],
)
def test_loopback_is_who_asks_from_this_host_without_a_proxy_between(
    watcher: Watcher, settings: Settings, tmp_path: Path, client: tuple[str, int], headers: dict[str, str], status: int
) -> None:
    settings.KEEPTRUSTS_METRICS_LOOPBACK = True
    settings.DATA_DIR = tmp_path
    assert watcher.get("/metrics", client, **headers).status == status


def test_decisions_lookups_and_events_are_counted(plane: Plane, watcher: Watcher, token: str) -> None:
    gateway, issued = make_gateway().value, make_key()
    reporter = make_gateway(usage_source=UsageSource.REPORT).value
    for _ in range(3):
        assert plane.authorize(gateway, issued.value).status == 200
    assert plane.authorize(gateway, None).status == 401
    assert plane.authorize(None, None).status == 403
    event = {"occurred_at": clock.now().isoformat(), "key_id": str(issued.key.id), "key_version": 1, "id": "1"}
    assert plane.report(reporter, [event, event, {}]).status == 200

    found = figures(watcher.get("/metrics", authorization=token))
    assert found["keeptrusts_decisions_total allowed"] == 3
    assert found["keeptrusts_decisions_total key_missing"] == 1
    assert found["keeptrusts_decisions_total gateway_unknown"] == 1
    assert found["keeptrusts_decisions_total key_revoked"] == 0
    assert found["keeptrusts_decision_seconds_count"] == 5
    assert found["keeptrusts_decision_seconds_bucket +Inf"] == 5
    assert found["keeptrusts_decision_seconds_sum"] > 0
    assert {result: found[f"keeptrusts_usage_events_total {result}"] for result in ("accepted", "duplicates")} == {
        "accepted": 1,
        "duplicates": 1,
    }
    assert found["keeptrusts_usage_events_total rejected"] == 1
    # The one without a token took neither.
    assert found["keeptrusts_lookups_total hit"] + found["keeptrusts_lookups_total miss"] == 4
    # The token's value is nobody's label.
    assert gateway not in str(found)


def test_what_jobs_and_the_sealer_are_behind_with_is_told(watcher: Watcher, token: str) -> None:
    JobRun.objects.create(task="keys.tasks.expire_keys", succeeded_at=clock.now() - timedelta(seconds=100))
    make_key()
    found = figures(watcher.get("/metrics", authorization=token))
    assert 99 < found["keeptrusts_job_age_seconds keys.tasks.expire_keys"] < 130
    assert found["keeptrusts_job_age_seconds audit.tasks.seal"] == float("inf")
    assert found["keeptrusts_unsealed_entries"] >= 1
    assert found["keeptrusts_ready beat"] == 0
    assert found["keeptrusts_ready database"] == 1


def test_whichever_process_is_asked_answers_for_all_and_a_dead_ones_counts_stay(
    plane: Plane, watcher: Watcher, token: str
) -> None:
    watcher.application.start()
    folder = processes._folder()
    folder.mkdir(parents=True, exist_ok=True)
    other = Telemetry()
    for _ in range(5):
        other.decided(None, telemetry.now())
    written = other.snapshot() | {"lease": True, "cpu_seconds": 2, "resident_bytes": 1_000}
    (folder / "999999999.json").write_bytes(orjson.dumps(written))
    (folder / f"{os.getppid()}.json").write_bytes(orjson.dumps(written))
    plane.authorize(None, None)

    found = figures(watcher.get("/metrics", authorization=token))
    assert found["keeptrusts_decisions_total allowed"] == 10
    assert found["keeptrusts_decisions_total gateway_unknown"] == 1
    assert found["keeptrusts_decision_seconds_count"] == 11
    assert sum(found[f"keeptrusts_web_processes {lease}"] for lease in ("held", "lost", "unused")) == 2


def test_files_of_those_that_are_gone_are_removed_at_the_next_start(watcher: Watcher, token: str) -> None:
    stale = processes._folder().with_name(processes._folder().name.rsplit("-", 1)[0] + "-1")
    stale.mkdir(parents=True)
    watcher.application.start()
    assert not stale.exists()


def test_a_process_writes_its_counts_when_it_stops(watcher: Watcher, token: str) -> None:
    watcher.application.start()
    watcher.loop.run_until_complete(watcher.application.close())
    (file,) = processes._folder().glob("*.json")
    assert orjson.loads(file.read_bytes())["resident_bytes"] > 1_000_000

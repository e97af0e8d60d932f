"""What is counted of LiteLLM's requests: each once, with its facts, whatever happens to either side."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateways.litellm.conftest import Keys, LiteLLM, bearer, chat
from tests.litellm_proxy import FOLDER
from tests.processes import clean_environment, eventually
from tests.provider import USAGE, Provider
from tests.relay import Relay
from tests.served import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("litellm")]

PATH = "/v1/chat/completions"
TOKENS = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": USAGE["completion_tokens"]}
PRICED = {"provider": "openai", "model": "gpt-4.1-mini", "operation": "chat", **TOKENS}
UNTOLD = {"provider": "", "model": "", "operation": "", "input_tokens": None, "output_tokens": None, "cost": None}


def facts(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: event[name] for name in names}


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"no-log": True}], ids=["whole", "streaming", "no-log"])
def test_a_request_comes_back_with_all_its_facts(litellm: LiteLLM, keys: Keys, more: dict[str, Any]) -> None:
    key = keys.make()
    began = time.monotonic()
    answer = litellm.ask(key["value"], **more, headers={"x-litellm-disable-callbacks": "keeptrusts_litellm.usage"})
    took = (time.monotonic() - began) * 1_000
    assert answer.status_code == 200
    (event,) = keys.events(key, 1)
    assert facts(event, *PRICED) == PRICED
    assert facts(event, "status", "method", "path", "client_ip", "key_version") == {
        "status": 200,
        "method": "POST",
        "path": PATH,
        "client_ip": "127.0.0.1",
        "key_version": 1,
    }
    assert 0 < event["latency_ms"] <= took + 1
    # 0.40 and 1.60 dollars for a million tokens.
    assert float(event["cost"]) == pytest.approx((11 * 0.40 + 7 * 1.60) / 1_000_000)
    assert event["event_id"] == event["decision_id"]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/messages", {**chat("claude", stream=True), "max_tokens": 50}, ("anthropic", "claude-sonnet-4-5", "chat")),
        ("/v1/responses", {"model": "works", "input": "Hi."}, ("openai", "gpt-4.1-mini", "chat")),
        ("/v1/responses", {"model": "works", "input": "Hi.", "stream": True}, ("openai", "gpt-4.1-mini", "chat")),
    ],
    ids=["anthropic, streaming", "responses", "responses, streaming"],
)
def test_other_ways_to_ask_come_back_with_their_facts(
    litellm: LiteLLM, keys: Keys, path: str, body: dict[str, Any], told: tuple[str, str, str]
) -> None:
    key = keys.make()
    answer = litellm.client.post(path, headers={"x-api-key": key["value"]} | bearer(key["value"]), json=body)
    assert "Hello." in answer.text
    (event,) = keys.events(key, 1)
    assert facts(event, "status", "path", *TOKENS) == {"status": 200, "path": path, **TOKENS}
    assert (event["provider"], event["model"], event["operation"]) == told


def test_each_version_is_counted_as_itself(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()
    assert litellm.ask(key["value"], model="mock").status_code == 200
    rotated = keys.verb(key, "rotate", grace_seconds=600)
    for value in (rotated["value"], key["value"]):
        assert litellm.ask(value, model="mock").status_code == 200
    assert [event["key_version"] for event in keys.events(key, 3)] == [1, 2, 1]


def test_what_is_tried_three_times_counts_once_with_the_status_that_the_client_got(
    litellm: LiteLLM, keys: Keys, provider: Provider
) -> None:
    key = keys.make()
    before = len(provider.seen)
    assert litellm.ask(key["value"], model="fails-500").status_code == 500
    assert len(provider.seen) == before + 3
    (event,) = keys.events(key, 1)
    assert facts(event, "status", "provider", "model") == {"status": 500, "provider": "openai", "model": "fails-500"}


def test_a_stream_that_breaks_off_counts_as_an_error(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()
    answer = litellm.ask(key["value"], model="breaks", stream=True)
    assert answer.status_code == 200
    assert "error" in answer.text
    (event,) = keys.events(key, 1)
    assert event["status"] >= 500
    assert event["model"] == "breaks"


def test_a_client_that_goes_away_counts_as_499(litellm: LiteLLM, keys: Keys, provider: Provider) -> None:
    key = keys.make()
    headers = bearer(key["value"])
    provider.go_on.clear()
    with litellm.client.stream("POST", PATH, headers=headers, json=chat("hangs", stream=True)) as answer:
        assert "Hel" in next(answer.iter_text())
    with pytest.raises(httpx.ReadTimeout):
        litellm.client.post(PATH, headers=headers, json=chat("hangs"), timeout=1)
    provider.go_on.set()
    assert [event["status"] for event in keys.events(key, 2)] == [499, 499]


@pytest.mark.once
def test_a_client_that_leaves_with_the_last_word_has_had_its_answer(program: Path, tmp_path: Path) -> None:
    """As clients of OpenAI do, which close a stream at its [DONE]: the door alone, before an application that waits."""
    environment = clean_environment(KEEPTRUSTS_URL="http://127.0.0.1:9", KEEPTRUSTS_GATEWAY_TOKEN="none")
    environment |= {
        "KEEPTRUSTS_SPOOL": str(tmp_path),
        "PYTHONPATH": str(FOLDER),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [str(program.with_name("python")), str(Path(__file__).with_name("leaving.py"))]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["200", "499"]


def test_what_no_provider_has_answered_counts_without_a_model_that_the_client_made_up(
    litellm: LiteLLM, keys: Keys
) -> None:
    key = keys.make()
    assert litellm.ask(key["value"], model="made-up").status_code == 400
    assert litellm.client.get("/v1/models", headers=bearer(key["value"])).status_code == 200
    wrong, models = keys.events(key, 2)
    assert facts(wrong, "status", "path") == {"status": 400, "path": PATH}
    assert facts(models, "status", "method", "path") == {"status": 200, "method": "GET", "path": "/v1/models"}
    assert facts(wrong, *UNTOLD) == facts(models, *UNTOLD) == UNTOLD


def test_denials_and_routes_without_a_key_are_not_reported(litellm: LiteLLM, keys: Keys) -> None:
    other = keys.make(consumer_group="other")
    assert litellm.ask(other["value"]).status_code == 403
    assert litellm.client.get("/health/liveliness").status_code == 200
    key = keys.make()
    assert litellm.ask(key["value"], model="mock").status_code == 200
    assert len(keys.events(key, 1)) == 1
    assert keys.total(other) == 0


def test_many_at_once_count_exactly(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()

    def ask(_: int) -> int:
        return litellm.ask(key["value"], model="mock").status_code

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(80))) == [200] * 80
    assert all(event["input_tokens"] for event in keys.events(key, 80))


def test_what_keeptrusts_cannot_take_is_kept_and_counts_once(
    litellm: LiteLLM, keys: Keys, served: Served, relay: Relay
) -> None:
    """Killed in the middle of requests, unreachable for their reports, and started again."""
    key = keys.make()
    for _ in range(5):
        assert litellm.ask(key["value"], model="mock").status_code == 200
    served.kill()
    assert litellm.ask(key["value"], model="mock").status_code == 503
    served.start()
    for _ in range(5):
        assert litellm.ask(key["value"], model="mock").status_code == 200
    assert len({event["event_id"] for event in keys.events(key, 10)}) == 10


def test_a_killed_litellm_loses_nothing_that_a_client_has_had(
    litellm: LiteLLM, keys: Keys, served: Served, relay: Relay
) -> None:
    """Both are killed with requests unreported and one that was answered this very moment."""
    key = keys.make()
    with relay.refusing_reports():
        for _ in range(10):
            assert litellm.ask(key["value"], model="mock").status_code == 200
        litellm.kill()
        served.kill()
    assert litellm.unreported() > 0
    served.start()
    assert keys.total(key) == 0
    litellm.start()
    events = keys.events(key, 10)
    assert {event["status"] for event in events} == {200}
    assert sum(event["model"] == "gpt-4.1-mini" for event in events) >= 9
    assert eventually(lambda: litellm.unreported() == 0)


def test_a_spool_that_is_told_twice_counts_once(litellm: LiteLLM, keys: Keys, relay: Relay) -> None:
    """As after a kill between the report and the end of the file: another process finds it and tells it all again."""
    key = keys.make()
    assert eventually(lambda: litellm.unreported() == 0)
    with relay.refusing_reports():
        assert litellm.ask(key["value"], model="mock").status_code == 200
        (copy,) = [path.read_text() for path in litellm.spool.glob("*.ndjson")]
    keys.events(key, 1)
    left = litellm.spool / "left.new"
    left.write_text(copy + "\n" + copy[: len(copy) // 2])
    left.rename(left.with_suffix(".ndjson"))
    assert eventually(lambda: litellm.unreported() == 0)
    assert keys.total(key) == 1
    assert json.loads(copy.splitlines()[-1])["key_id"] == key["id"]


def test_a_full_spool_stops_the_count_and_not_the_traffic(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()
    filler = litellm.spool / "filler"
    with filler.open("wb") as file:
        file.truncate(256 * 1_048_576)  # it only looks so large
    try:
        # What is in the folder is looked at twice a second.
        assert eventually(lambda: litellm.ask(key["value"], model="mock") and "is full" in litellm.log)
    finally:
        filler.unlink()
    counted = keys.total(key)
    assert eventually(lambda: litellm.ask(key["value"], model="mock") and keys.total(key) > counted + 1)


def test_a_token_that_is_accepted_no_more_refuses_all_and_loses_nothing(
    litellm: LiteLLM, keys: Keys, served: Served
) -> None:
    key = keys.make()
    (gateway,) = served.api("GET", "/gateways/?search=litellm")["results"]
    assert litellm.ask(key["value"], model="mock").status_code == 200
    issued = served.api("POST", f"/gateways/{gateway['id']}/rotate-token/", {"overlap_seconds": 0})
    refused = litellm.ask(key["value"])
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "gateway_unknown" in litellm.log
    litellm.kill()
    litellm.token.write_text(issued["token"])
    litellm.start()
    assert litellm.ask(key["value"], model="mock").status_code == 200
    keys.events(key, 2)


@pytest.mark.once
def test_litellm_does_not_start_without_what_it_needs(litellm: LiteLLM) -> None:
    with litellm.started_without("KEEPTRUSTS_SPOOL") as process:
        process.says("set KEEPTRUSTS_SPOOL")
        assert process.ends() != 0

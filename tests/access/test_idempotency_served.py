"""`Idempotency-Key` before a real server: many at once, and a server that dies between commit and answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.processes import eventually
from tests.served import Served, own_database
from tests.stalling import ARMED, REACHED

AT_ONCE = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("console")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with own_database("idempotency") as url:
        served = Served(folder, url, "tests.stalling")
        try:
            served.start()
            yield served
        finally:
            served.close()


def post(served: Served, path: str, body: Any, key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {served.access_key}", "Idempotency-Key": key}
    return httpx.post(f"{served.base}/api/v1{path}", json=body, headers=headers, timeout=60)


def at_once(served: Served, path: str, body: Any) -> list[httpx.Response]:
    key, barrier = str(uuid4()), threading.Barrier(AT_ONCE)

    def send(_: int) -> httpx.Response:
        barrier.wait(30)
        return post(served, path, body, key)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(send, range(AT_ONCE)))
    # Whoever asks once more when all is over is told what the first made.
    return [*answers, post(served, path, body, key)]


def codes(answers: list[httpx.Response]) -> Counter[tuple[int, str]]:
    return Counter((answer.status_code, answer.json().get("code", "")) for answer in answers)


def test_of_twenty_creates_at_once_one_makes_a_key(served: Served) -> None:
    name = f"made-{uuid4().hex}"
    answers = at_once(served, "/gateway-keys/", {"name": name})
    made = [answer.json() for answer in answers if answer.status_code == 201]
    assert [key["name"] for key in made] == [name]
    assert served.api("GET", f"/gateway-keys/?search={name}")["count"] == 1
    assert set(codes(answers)) <= {(201, ""), (409, "in_progress"), (409, "already_processed")}
    last = answers[-1].json()
    assert (last["code"], last["id"], last["version"]) == ("already_processed", made[0]["id"], 1)
    assert sum("kt_gk_" in answer.text and '"value"' in answer.text for answer in answers) == 1


def test_of_twenty_rotations_at_once_one_makes_a_version(served: Served) -> None:
    key = served.api("POST", "/gateway-keys/", {"name": "a"})["id"]
    answers = at_once(served, f"/gateway-keys/{key}/rotate/", {})
    assert [answer.status_code for answer in answers].count(200) == 1
    assert [version["number"] for version in served.api("GET", f"/gateway-keys/{key}/")["versions"]] == [2, 1]


def test_of_twenty_verbs_without_a_secret_each_answer_is_the_same_or_tells_to_wait(served: Served) -> None:
    key = served.api("POST", "/gateway-keys/", {"name": "a"})["id"]
    answers = at_once(served, f"/gateway-keys/{key}/disable/", {})
    assert set(codes(answers)) <= {(200, ""), (409, "in_progress")}
    assert all(answer.json() == answers[-1].json() for answer in answers if answer.status_code == 200)
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers if answer.status_code == 200]
    assert replayed.count(None) == 1
    entries = served.api("GET", f"/audit-entries/?object_id={key}&action=gateway_key.disabled")
    assert entries["count"] == 1


@pytest.mark.parametrize("verb", ["create", "rotate", "disable", "bulk-rotate"])
def test_a_server_that_dies_between_commit_and_answer_has_done_it_once(verb: str, served: Served, folder: Path) -> None:
    key = served.api("POST", "/gateway-keys/", {"name": "a"})["id"]
    operations: dict[str, tuple[str, dict[str, Any]]] = {
        "create": ("/gateway-keys/", {"name": f"made-{uuid4().hex}"}),
        "rotate": (f"/gateway-keys/{key}/rotate/", {}),
        "disable": (f"/gateway-keys/{key}/disable/", {}),
        "bulk-rotate": ("/gateway-keys/bulk-rotate/", {"ids": [key]}),
    }
    path, body = operations[verb]
    idempotency_key = str(uuid4())
    (folder / ARMED).touch()

    def ask() -> None:
        with suppress(httpx.TransportError):
            post(served, path, body, idempotency_key)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert eventually((folder / REACHED).exists, 30)
        served.kill()
    finally:
        (folder / ARMED).unlink()
        (folder / REACHED).unlink(missing_ok=True)
        asking.join(60)
    served.start()
    again = post(served, path, body, idempotency_key)
    shown = served.api("GET", f"/gateway-keys/{key}/")
    if verb == "disable":
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
        assert again.json()["status"] == shown["status"] == "disabled"
        return
    told = again.json()
    assert (again.status_code, told["code"]) == (409, "already_processed")
    if verb == "create":
        assert served.api("GET", f"/gateway-keys/?search={body['name']}")["results"][0]["id"] == told["id"]
        assert served.api("GET", f"/gateway-keys/?search={body['name']}")["count"] == 1
    else:
        told = told["results"][0] if verb == "bulk-rotate" else told
        assert (told["id"], told["version"]) == (key, 2)
        assert [version["number"] for version in shown["versions"]] == [2, 1]

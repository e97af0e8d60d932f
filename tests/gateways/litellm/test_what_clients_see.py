"""What LiteLLM's clients see, held against the table of docs/gateways-litellm.md; and that no key is in LiteLLM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from access import tokens
from access.tokens import TokenKind
from tests.gateways.litellm.conftest import Keys, LiteLLM, bearer, chat
from tests.processes import ROOT, eventually
from tests.provider import Provider
from tests.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("litellm")]

NONE = "\N{EN DASH}"


class Situation:
    """Everything that a request may need to come about."""

    def __init__(self, litellm: LiteLLM, keys: Keys, relay: Relay) -> None:
        self.litellm, self.keys, self.relay = litellm, keys, relay

    def good(self) -> str:
        return str(self.keys.make()["value"])

    def revoked(self) -> str:
        key = self.keys.make()
        self.keys.verb(key, "revoke", reason="for the table")
        return str(key["value"])

    def elsewhere(self) -> str:
        return str(self.keys.make(allowed_networks=["192.0.2.0/24"])["value"])


def ask(**particulars: Any) -> Callable[[Situation], httpx.Response]:
    """Return a request with a good key. particulars: as for `LiteLLM.ask`."""
    return lambda s: s.litellm.ask(s.good(), **particulars)


def with_header(name: str) -> Callable[[Situation], httpx.Response]:
    return lambda s: s.litellm.ask(None, headers={name: s.good()})


def forged(s: Situation) -> httpx.Response:
    """Whatever could say who or where one is, from somebody who is somewhere else."""
    lies = {
        "X-Keeptrusts-Client-IP": "192.0.2.1",
        "X-Forwarded-For": "192.0.2.1",
        "X-Real-IP": "192.0.2.1",
        "X-Keeptrusts-Key-Id": s.keys.make()["id"],
        "X-Keeptrusts-Consumer-Group": "*",
    }
    return s.litellm.ask(s.elsewhere(), headers=lies)


def broken(mode: str) -> Callable[[Situation], httpx.Response]:
    """Return a request with a good key while Keeptrusts cannot be asked."""

    def request(s: Situation) -> httpx.Response:
        value = s.good()
        with getattr(s.relay, mode)():
            return s.litellm.ask(value)

    return request


def management(s: Situation) -> httpx.Response:
    return s.litellm.client.post("/key/generate", headers=bearer(s.good()), json={})


SITUATIONS: dict[str, Callable[[Situation], httpx.Response]] = {
    "a good key": ask(),
    "a good key, streaming": ask(stream=True),
    "a good key in `x-api-key`, as Anthropic's clients send it": with_header("x-api-key"),
    "a good key in `api-key`, as Azure's clients send it": with_header("api-key"),
    "no key": lambda s: s.litellm.ask(None),
    "a key that is none of ours": lambda s: s.litellm.ask("sk-something-else"),
    "an unknown key": lambda s: s.litellm.ask(tokens.generate(TokenKind.GATEWAY_KEY)),
    "a key for this network": lambda s: s.litellm.ask(s.keys.make(allowed_networks=["127.0.0.0/8"])["value"]),
    "a revoked key": lambda s: s.litellm.ask(s.revoked()),
    "a key of another group": lambda s: s.litellm.ask(s.keys.make(consumer_group="other")["value"]),
    "a key that is not for this network": lambda s: s.litellm.ask(s.elsewhere()),
    "the same with forged `X-Keeptrusts-*` and `X-Forwarded-For`": forged,
    "a good key in the address (`?key=`)": lambda s: s.litellm.client.post(
        f"/v1beta/models/works:generateContent?key={s.good()}", json={"contents": []}
    ),
    "LiteLLM's master key": lambda s: s.litellm.ask(s.litellm.master_key),
    "a good key, but a route of LiteLLM's own management": management,
    "a good key, but a model that there is not": ask(model="made-up"),
    "a good key, the provider answers 500": ask(model="fails-500"),
    "a good key, the provider answers 429": ask(model="fails-429"),
    "Keeptrusts answers 503": broken("undecided"),
    "Keeptrusts does not answer": broken("silent"),
    "Keeptrusts cannot be reached": broken("refusing"),
}


def documented() -> Iterator[tuple[str, list[str]]]:
    """Give the rows of the table: the situation, and what it comes to."""
    page = (ROOT / "docs" / "gateways-litellm.md").read_text()
    table = page.partition("| situation |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        situation, *cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        yield situation, cells


def seen(answer: httpx.Response, *, provider_asked: bool) -> list[str]:
    challenge = answer.headers.get("WWW-Authenticate", "")
    error = re.search(r'error="(\w+)"', challenge)
    return [
        str(answer.status_code),
        answer.headers.get("X-Keeptrusts-Reason", NONE),
        error[1] if error else "no error" if challenge else NONE,
        answer.headers.get("Retry-After", NONE),
        "yes" if provider_asked else "no",
    ]


@pytest.mark.parametrize("name", SITUATIONS)
def test_clients_see_what_the_table_says(
    name: str, litellm: LiteLLM, keys: Keys, relay: Relay, provider: Provider
) -> None:
    before = len(provider.seen)
    answer = SITUATIONS[name](Situation(litellm, keys, relay))
    answer.read()
    assert seen(answer, provider_asked=len(provider.seen) > before) == dict(documented())[name], answer.text


def test_the_table_has_a_row_for_each_situation() -> None:
    assert [situation for situation, _ in documented()] == list(SITUATIONS)


def test_a_refusal_says_why_in_the_words_of_openais_clients(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()
    keys.verb(key, "revoke", reason="for the words")
    answer = litellm.ask(key["value"])
    error = answer.json()["error"]
    assert (error["message"], error["type"], error["code"]) == ("The key was revoked", "key_revoked", "401")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Keeptrusts-Decision-Id"])


def test_a_key_whose_revoke_has_returned_is_refused_by_the_next_request(litellm: LiteLLM, keys: Keys) -> None:
    key = keys.make()
    assert litellm.ask(key["value"]).status_code == 200
    keys.verb(key, "revoke", reason="at once")
    assert litellm.ask(key["value"]).status_code == 401


def test_it_is_asked_again_as_soon_as_it_can_be(litellm: LiteLLM, keys: Keys, relay: Relay) -> None:
    value = keys.make()["value"]
    with relay.refusing():
        assert litellm.ask(value).status_code == 503
    assert litellm.ask(value).status_code == 200


def test_no_value_is_anywhere_in_litellm_nor_goes_to_the_provider(
    litellm: LiteLLM, keys: Keys, provider: Provider
) -> None:
    good = keys.make()["value"]
    refused = keys.make(consumer_group="other")["value"]
    unknown = tokens.generate(TokenKind.GATEWAY_KEY)
    careless = {"X-My-Key": good, "User-Agent": good, "Referer": good, "Cookie": f"key={good}"}
    for value in (good, refused, unknown, unknown[:-3], unknown + "!"):
        litellm.ask(value, headers=careless, stream=True)
        litellm.ask(value, model="fails-429")
        litellm.client.post(f"/v1/chat/completions?key={value}", json=chat("works"))
        litellm.client.get(f"/v1/models/{value}", headers=bearer(value))
        litellm.client.get("/v1/models", headers={"Authorization": f"bearer  {value}"})
        litellm.client.get("/v1/models", headers={"Authorization": f"Basic {value}"})
        litellm.client.get("/v1/models", headers={"Authorization": value, "x-litellm-api-key": value})
    assert eventually(lambda: litellm.unreported() == 0)
    kept = "".join(path.read_text() for path in litellm.spool.iterdir())
    witnessed = litellm.witness.read_text()
    everything = litellm.log + witnessed + "".join(provider.seen) + kept
    for value in (good, refused, unknown):
        assert value[10:-4] not in everything
    assert "fails-429" in litellm.log, "LiteLLM told its log about the requests: the search sees what it should"
    assert all(f"('{what}'" in witnessed for what in ("before", "success", "failure", "failed"))
    assert "sk-of-the-provider" in "".join(provider.seen)
    assert "x-keeptrusts" not in "".join(provider.seen).lower()

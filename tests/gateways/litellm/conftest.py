"""LiteLLM as its users start it, asking a data plane that is really served; a relay between them, a provider behind."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.litellm_proxy import NotInstallable, litellm_program, write_configuration
from tests.processes import Watched, clean_environment, eventually, running
from tests.programs import in_ci
from tests.provider import Provider, running_provider
from tests.relay import Relay
from tests.served import Served, own_database
from tests.servers import free_port

GROUP = "chat"
PRICED = "openai/gpt-4.1-mini"


class LiteLLM:
    """The proxy, its log from all its lives, and what it has not reported yet."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.master_key = environment["LITELLM_MASTER_KEY"]
        self.port = free_port()
        self.folder = folder
        self.spool = folder / "spool"
        self.witness = Path(environment["WITNESS"])
        self.token = Path(environment["KEEPTRUSTS_GATEWAY_TOKEN_FILE"])
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self._environment = environment | {"KEEPTRUSTS_SPOOL": str(self.spool)}
        self._earlier: list[str] = []
        self._running: AbstractContextManager[Watched] | None = None
        self._process: Watched | None = None
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @property
    def log(self) -> str:
        return "".join(self._earlier) + (self._process.output if self._process else "")

    def start(self) -> None:
        self._running = running(self._command, self._environment, self.folder)
        self._process = self._running.__enter__()
        assert eventually(lambda: self._answers() or self._has_ended(), 90), self.log
        assert not self._has_ended(), self.log

    def started_without(self, name: str) -> AbstractContextManager[Watched]:
        """Start another one, which lacks a variable, and probably ends."""
        environment = {key: value for key, value in self._environment.items() if key != name}
        command = [*self._command[:-1], str(free_port())]
        return running(command, environment, self.folder)

    def kill(self) -> None:
        """Return when it is gone, killed in the middle of whatever it did."""
        if self._running and self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.process.pid, signal.SIGKILL)
            self._running.__exit__(None, None, None)
            self._earlier += self._process.lines
            self._running = self._process = None

    def ask(self, value: str | None, model: str = "works", **more: Any) -> httpx.Response:
        """Send a chat completion. more: `headers`, and what else goes into its body."""
        return self.client.post(
            "/v1/chat/completions", headers=bearer(value) | more.pop("headers", {}), json=chat(model, **more)
        )

    def unreported(self) -> int:
        """Return how many bytes wait in the spool."""
        sizes = 0
        for path in self.spool.iterdir():
            with suppress(FileNotFoundError):  # reported just now
                sizes += path.stat().st_size
        return sizes

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return self.client.get("/health/liveliness").status_code == 200
        return False

    def _has_ended(self) -> bool:
        return self._process is None or self._process.process.poll() is not None


def bearer(value: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"} if value else {}


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi."}], **more}


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return litellm_program()
    except NotInstallable as error:
        if in_ci():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def served(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with own_database("litellm") as url:
        served = Served(tmp_path_factory.mktemp("console"), url)
        try:
            served.start()
            served.api("POST", "/consumer-groups/", {"name": "Chat", "slug": GROUP})
            served.api("POST", "/consumer-groups/", {"name": "Other", "slug": "other"})
            yield served
        finally:
            served.close()


@pytest.fixture(scope="session")
def relay(served: Served) -> Iterator[Relay]:
    with Relay(served.port).running() as relay:
        yield relay


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def litellm(
    program: Path, served: Served, relay: Relay, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiteLLM]:
    folder = tmp_path_factory.mktemp("litellm")
    behind = {"api_base": provider.url, "api_key": "sk-of-the-provider", "max_retries": 0}
    # LiteLLM tries twice more where it is not told otherwise, as here for fails-500 alone.
    models = {name: {"model": f"openai/{name}", **behind} for name in ("fails-500", "fails-429", "breaks", "hangs")}
    models["claude"] = {"model": "anthropic/claude-sonnet-4-5", "api_base": provider.root, "api_key": "sk-ant"}
    models["fails-429"] |= {"num_retries": 0}
    models |= {"works": {"model": PRICED, **behind}, "mock": {"model": PRICED, "mock_response": "Hello."}}
    token = folder / "token"
    created = served.api("POST", "/gateways/", {"name": "litellm", "usage_source": "report"})
    token.write_text(created["token"] + "\n")
    environment = clean_environment(
        KEEPTRUSTS_URL=f"http://127.0.0.1:{relay.port}",
        KEEPTRUSTS_GATEWAY_TOKEN_FILE=str(token),
        KEEPTRUSTS_CONSUMER_GROUP=GROUP,
        LITELLM_MASTER_KEY=f"sk-{secrets.token_hex(32)}",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        WITNESS=str(folder / "witness"),
        OPENAI_API_KEY="sk-of-nobody",
        # uvicorn believes loopback's X-Forwarded-For unless it is told otherwise.
        FORWARDED_ALLOW_IPS="",
        NO_PROXY="127.0.0.1",
    )
    configuration = write_configuration(folder, models, callback=Path(__file__).with_name("witness.py"))
    # With all that it can be made to say: no value may be in it either.
    command = [str(program), "--config", str(configuration), "--detailed_debug"]
    proxy = LiteLLM(command, environment, folder)
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.kill()
        proxy.client.close()


class Keys:
    """Makes keys, and reads what was counted of them."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def make(self, **particulars: Any) -> dict[str, Any]:
        body = {"name": f"key {secrets.token_hex(4)}", "consumer_group": GROUP, **particulars}
        made: dict[str, Any] = self._served.api("POST", "/gateway-keys/", body)
        return made

    def verb(self, key: dict[str, Any], verb: str, **body: Any) -> Any:
        return self._served.api("POST", f"/gateway-keys/{key['id']}/{verb}/", body)

    def total(self, key: dict[str, Any]) -> int:
        metrics = self._served.api("GET", f"/gateway-keys/{key['id']}/")["metrics"]
        return int(metrics["total_requests"])

    def events(self, key: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """Return what was served with the key, in order, once it is as much as expected."""

        def listed() -> list[dict[str, Any]]:
            path = f"/usage-events/?key={key['id']}&outcome=served&ordering=occurred_at&page_size=100"
            found: list[dict[str, Any]] = self._served.api("GET", path)["results"]
            return found

        assert eventually(lambda: len(listed()) >= count, 20), listed()
        assert self.total(key) == len(listed()) == count
        return listed()


@pytest.fixture
def keys(served: Served) -> Keys:
    return Keys(served)

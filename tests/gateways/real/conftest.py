"""One console for the tests of this folder, and gateways before it, each started when a test first asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from access import tokens
from access.tokens import TokenKind
from tests.gateways.real.console import Console, running_console
from tests.gateways.real.gateways import NAMES, Gateway, running_gateway
from tests.gateways.real.servers import Application, Scripted, refusing_port, serving
from tests.gateways.real.situations import Observed, Situation, observe

type Real = Callable[..., Gateway]
type Observe = Callable[[str, Situation], Observed]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this folder in one process: they share one console."""
    for item in items:
        if "gateways/real" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("real gateways"))


def each_gateway() -> pytest.MarkDecorator:
    """Run a test with each gateway, in `name`."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in NAMES])


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    # A failing test shows what the programs said; each request of ours beside it would drown that.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with running_console(tmp_path_factory.mktemp("console")) as console:
        yield console


@pytest.fixture(scope="session")
def application() -> Iterator[Application]:
    with serving(Application()) as application:
        yield application


@pytest.fixture(scope="session")
def scripted() -> Iterator[Scripted]:
    with serving(Scripted()) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def token(console: Console) -> str:
    """The token of the gateways, which report what they served."""
    return console.gateway("edge", usage_source="report")


@pytest.fixture(scope="session")
def keys(console: Console) -> dict[str, str]:
    """Values of keys, by what is special about them."""
    for slug in ("search", "checkout"):
        console.api("POST", "/consumer-groups/", {"name": slug, "slug": slug})
    revoked = console.key("revoked")
    console.api("POST", f"/gateway-keys/{revoked.id}/revoke/", {"reason": "tests"})
    return {
        "good": console.key("good").value,
        "search": console.key("of search", consumer_group="search").value,
        "checkout": console.key("of checkout", consumer_group="checkout").value,
        "loopback": console.key("from here", allowed_networks=["127.0.0.0/8"]).value,
        "elsewhere": console.key("from elsewhere", allowed_networks=["192.0.2.0/24"]).value,
        "revoked": revoked.value,
        "unknown": tokens.generate(TokenKind.GATEWAY_KEY),
        "malformed": "kt_gk_nonsense",
    }


@pytest.fixture(scope="session")
def real(
    console: Console, application: Application, scripted: Scripted, token: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Real]:
    """Return what gives the gateway of this name that asks whom a situation says."""
    started: dict[tuple[str, str], Gateway] = {}
    with ExitStack() as stack:
        nobody = stack.enter_context(refusing_port())
        stranger = tokens.generate(TokenKind.GATEWAY_TOKEN)

        def get(name: str, asks: str = "console") -> Gateway:
            if (name, asks) not in started:
                authorize = {"script": scripted.port, "nobody": nobody}.get(asks, console.port)
                behind = nobody if asks == "console, for nothing" else application.port
                own = stranger if asks == "console, as a stranger" else token
                folder = tmp_path_factory.mktemp(name)
                running = running_gateway(name, authorize=authorize, application=behind, token=own, folder=folder)
                started[name, asks] = stack.enter_context(running)
            return started[name, asks]

        yield get


@pytest.fixture(scope="session")
def observed(real: Real, keys: dict[str, str], application: Application, scripted: Scripted) -> Observe:
    """Return what says what was observed in a situation; each is brought about once, because some take seconds."""
    seen: dict[tuple[str, str], Observed] = {}

    def get(name: str, situation: Situation) -> Observed:
        if (name, situation.title) not in seen:
            gateway = real(name, situation.asks)
            seen[name, situation.title] = observe(situation, gateway, keys, application, scripted)
        return seen[name, situation.title]

    return get

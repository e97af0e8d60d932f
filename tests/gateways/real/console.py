"""A console served in processes of its own, as the tests of gateways ask it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.served import Served, own_database


@dataclass(frozen=True)
class Key:
    """A gateway key and its value."""

    id: str
    value: str


class Console(Served):
    """What the tests ask of the console, through its API."""

    def gateway(self, name: str, **particulars: Any) -> str:
        """Register a gateway and return its token."""
        return str(self.api("POST", "/gateways/", {"name": name, **particulars})["token"])

    def key(self, name: str, **particulars: Any) -> Key:
        made = self.api("POST", "/gateway-keys/", {"name": name, **particulars})
        return Key(made["id"], made["value"])

    def total_requests(self, key: Key) -> int:
        return int(self.api("GET", f"/gateway-keys/{key.id}/metrics/")["total_requests"])

    def events(self, key: Key) -> list[dict[str, Any]]:
        """Return the events of the key, as the API tells of them."""
        return list(self.api("GET", f"/usage-events/?key={key.id}&page_size=100")["results"])


@contextmanager
def running_console(folder: Path) -> Iterator[Console]:
    """Run a console for the block, on a database of its own in this home."""
    with own_database("gateways") as database_url:
        console = Console(folder, database_url)
        try:
            console.start()
            yield console
        finally:
            console.close()

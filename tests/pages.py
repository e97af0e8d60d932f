"""How tests read the console's pages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from uuid import uuid4

SENT = {"_form_submitted": "True"}


def text_of(response: Any) -> str:
    """Return what a person reads of a page, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def main_of(response: Any) -> str:
    """Return what a person reads beside the sidebar."""
    page = response.content.decode()
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page[page.index('id="main"') :])).split())


def column(response: Any, name: str) -> list[str]:
    """Return the texts of one column of a list, from the top."""
    cells = re.findall(rf'<t[hd] class="field-{name}[^>]*>(.*?)</t[hd]>', response.content.decode(), re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in cells]


def secret_of(response: Any) -> str:
    """Return the secret that a page shows."""
    shown = re.search(r'id="secret-value"[^>]*>([^<]*)<', response.content.decode())
    assert shown, text_of(response)
    return shown[1]


def confirmed(**given: Any) -> dict[str, Any]:
    """Return what a dialog sends, with a form token of its own."""
    return {**SENT, "form_token": uuid4(), **given}


def known_state(client: Any, page: str) -> dict[str, str]:
    """Return what the form of a page carries of the state that it was filled with; nothing where there is none."""
    form = client.get(page).content.decode()
    return dict(re.findall(r'name="(state_tag|seen_entry)" value="([^"]*)"', form))


def save(client: Any, page: str, given: dict[str, Any]) -> Any:
    """Open the form of a page and send it at once."""
    return client.post(page, {**known_state(client, page), **given})

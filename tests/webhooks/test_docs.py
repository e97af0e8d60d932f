"""What docs/webhooks.md tells receivers to do is done here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.factories import make_key
from tests.processes import ROOT
from tests.webhooks.receiver import Receiver
from webhooks import delivering
from webhooks.delivering import PAUSES
from webhooks.endpoints import IssuedSecret
from webhooks.happenings import CHOOSABLE
from webhooks.models import Delivery

DOCS: Final = (ROOT / "docs" / "webhooks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)


@pytest.mark.django_db
def test_the_shell_finds_the_signature(issued: IssuedSecret, receiver: Receiver, tmp_path: Path) -> None:
    make_key("prüfung")
    delivering.deliver(Delivery.objects.get().pk)
    ((headers, body),) = receiver.taken
    (tmp_path / "body.json").write_text(body)
    (script,) = [block for block in blocks("sh") if "openssl" in block]
    environment = {
        "PATH": os.environ["PATH"],
        "KEEPTRUSTS_WEBHOOK_SECRET": issued.value,
        "WEBHOOK_ID": headers["webhook-id"],
        "WEBHOOK_TIMESTAMP": headers["webhook-timestamp"],
    }
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert f"v1,{done.stdout.strip()}" in headers["webhook-signature"].split(" ")


@pytest.mark.django_db
def test_the_example_has_the_shape_of_a_real_notice(issued: IssuedSecret) -> None:
    make_key()
    example, real = json.loads(blocks("json")[0]), json.loads(Delivery.objects.get().notice.body)
    assert list(example) == list(real)
    assert list(example["data"]) == list(real["data"])
    assert list(example["data"]["gateway_key"]) == list(real["data"]["gateway_key"])
    assert list(example["data"]["gateway_key"]["versions"][0]) == list(real["data"]["gateway_key"]["versions"][0])


@pytest.mark.once
def test_every_type_is_told_of() -> None:
    for name in CHOOSABLE:
        assert name in DOCS or f"`.{name.partition('.')[2]}`" in DOCS


@pytest.mark.once
def test_the_pauses_are_those_that_are_told() -> None:
    words = re.search(r"Tried again after (.*?), each", DOCS, re.DOTALL)
    assert words
    seconds = {"s": 1, "min": 60, "h": 3600}
    told = [int(count) * seconds[unit] for count, unit in re.findall(r"(\d+) (s|min|h)\b", words[1])]
    assert told == [pause.total_seconds() for pause in PAUSES]

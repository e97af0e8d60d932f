from __future__ import annotations

import re
import subprocess
import sys

import pytest

from gateways.answers import new_decision_id
from tests.processes import ROOT

pytestmark = pytest.mark.once

IN_PARENT_AND_CHILD = """
import os
from gateways.answers import new_decision_id
new_decision_id()
if child := os.fork():
    os.waitpid(child, 0)
print(*(new_decision_id().decode() for _ in range(300)), flush=True)
"""


def test_ids_are_random_and_never_the_same() -> None:
    ids = [new_decision_id().decode() for _ in range(2_000)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == 2_000


def test_a_forked_process_gives_out_none_of_its_parents_ids() -> None:
    command = [sys.executable, "-c", IN_PARENT_AND_CHILD]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(set(ran.stdout.split())) == 600

"""The pipelines of docs/automation.md as they stand there, before a server, behind a network that loses answers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
import yaml

from tests.losing import LosingProxy
from tests.processes import ROOT
from tests.served import Served, own_database

pytestmark = pytest.mark.needs("curl", "jq")

DOCUMENT: Final = (ROOT / "docs" / "automation.md").read_text()
BLOCKS: Final = dict(re.findall(r'^```(?:yaml|sh) title="([\w-]+)"\n(.*?)^```$', DOCUMENT, re.DOTALL | re.MULTILINE))
# What each platform brings, as far as the files use it: it stores what it is given, and tells nobody.
FAKES: Final = {
    "sleep": "exit 0",
    "gh": '[ "$1 $2" = "secret set" ] && cat > "$STORE/$3"',
    "glab": '[ "$1 $2" = "variable update" ] && cat > "$STORE/$3"',
    "systemctl": 'echo "$@" >> "$STORE/reloaded"',
    "kubectl": """
case "$1 $2" in
"create secret") printf 'value: '; cat /dev/stdin ;;
"apply "*) sed 's/^value: //' > "$STORE/BILLING_GATEWAY_KEY" ;;
"rollout "*) echo "$@" >> "$STORE/rollouts" ;;
*) exit 1 ;;
esac""",
}


def github() -> tuple[list[str], str]:
    (job,) = yaml.safe_load(BLOCKS["github"])["jobs"].values()
    return ["bash", "-e"], job["steps"][-1]["run"]


def gitlab() -> tuple[list[str], str]:
    (script,) = yaml.safe_load(BLOCKS["gitlab"])["rotate-gateway-key"]["script"]
    return ["sh", "-e"], script


def kubernetes() -> tuple[list[str], str]:
    documents = {document["kind"]: document for document in yaml.safe_load_all(BLOCKS["kubernetes"])}
    pod = documents["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounted = pod["volumes"][0]["configMap"]["name"]
    assert mounted == documents["ConfigMap"]["metadata"]["name"]
    shell, path = pod["containers"][0]["command"]
    return [shell], documents["ConfigMap"]["data"][path.removeprefix("/scripts/")]


def cron() -> tuple[list[str], str]:
    return ["sh"], BLOCKS["cron"]


PLATFORMS: Final[dict[str, Callable[[], tuple[list[str], str]]]] = {
    "github": github,
    "gitlab": gitlab,
    "kubernetes": kubernetes,
    "cron": cron,
}
EACH = pytest.mark.parametrize("platform", sorted(PLATFORMS))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with own_database("automation") as url:
        served = Served(tmp_path_factory.mktemp("console"), url)
        try:
            served.start()
            yield served
        finally:
            served.close()


@pytest.fixture(scope="module")
def proxy(served: Served) -> Iterator[LosingProxy]:
    with LosingProxy(served.base).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def token(served: Served) -> str:
    return str(served.api("POST", "/gateways/", {"name": "edge"})["token"])


@dataclass
class Pipeline:
    """One run of one platform's file, which may be started again. value: what it holds before."""

    platform: str
    served: Served
    proxy: LosingProxy
    token: str
    folder: Path
    key_id: str
    value: str
    run_id: str

    def run(self) -> subprocess.CompletedProcess[str]:
        shell, body = PLATFORMS[self.platform]()
        return self.execute(shell, body)

    def execute(self, shell: list[str], body: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "STORE": str(self.folder / "store"),
            "KEY_FILE": str(self.stored_at),
            "CONFIGURATION": str(self.folder / "configuration"),
            "GITHUB_REPOSITORY": "acme/billing",
            "CI_PROJECT_PATH": "acme/billing",
            **self.settings,
        }
        if self.platform == "cron":
            for name in self.settings:
                del environment[name]
        script = self.folder / "script"
        script.write_text(body)
        return subprocess.run([*shell, str(script)], env=environment, capture_output=True, text=True, timeout=120)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "KEEPTRUSTS_URL": self.proxy.address,
            "KEEPTRUSTS_KEY_ID": self.key_id,
            "KEEPTRUSTS_ACCESS_KEY": self.served.access_key,
            "RUN": self.run_id,
        }

    @property
    def stored_at(self) -> Path:
        return self.folder / "store" / "BILLING_GATEWAY_KEY"

    def stored(self) -> str:
        return self.stored_at.read_text().strip()

    def accepts(self, value: str) -> bool:
        headers = {"X-Keeptrusts-Gateway-Token": self.token, "Authorization": f"Bearer {value}"}
        return httpx.get(f"{self.served.base}/gateway/v1/authorize", headers=headers).status_code == 200

    def versions(self) -> list[str]:
        """Return the state of each version, the newest first."""
        key = self.served.api("GET", f"/gateway-keys/{self.key_id}/")
        return [version["state"] for version in key["versions"]]


@pytest.fixture
def pipeline(platform: str, served: Served, proxy: LosingProxy, token: str, tmp_path: Path) -> Pipeline:
    for name in ("bin", "store"):
        (tmp_path / name).mkdir()
    for name, body in FAKES.items():
        fake = tmp_path / "bin" / name
        fake.write_text(f"#!/bin/sh\n{body}\n")
        fake.chmod(0o700)
    made = served.api("POST", "/gateway-keys/", {"name": "billing"})
    pipeline = Pipeline(platform, served, proxy, token, tmp_path, made["id"], made["value"], f"run-{uuid4()}")
    lines = [f"{name}={value}" for name, value in pipeline.settings.items() if name != "RUN"]
    (tmp_path / "configuration").write_text("\n".join(lines))
    proxy.to_lose = 0
    proxy.lost.clear()
    return pipeline


# Kubernetes ends the grace when every pod has the new value; the others leave it to time.
def old_ones(pipeline: Pipeline, count: int) -> list[str]:
    return ["closed" if pipeline.platform == "kubernetes" else "grace"] * count


@EACH
def test_it_rotates_and_stores_the_new_value(pipeline: Pipeline) -> None:
    ended = pipeline.run()
    assert ended.returncode == 0, ended.stderr
    assert pipeline.stored() != pipeline.value
    assert pipeline.accepts(pipeline.stored())
    assert pipeline.accepts(pipeline.value) == (pipeline.platform != "kubernetes")
    assert pipeline.versions() == ["current", *old_ones(pipeline, 1)]
    # GitHub is told what to mask, and nobody else is told anything.
    said = (
        ended.stdout.replace(f"::add-mask::{pipeline.stored()}\n", "")
        if pipeline.platform == "github"
        else ended.stdout
    )
    assert "kt_" not in said + ended.stderr


@EACH
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_it_survives_answers_that_are_lost(lost: int, pipeline: Pipeline) -> None:
    pipeline.proxy.to_lose = lost
    ended = pipeline.run()
    assert ended.returncode == 0, ended.stderr
    assert len(pipeline.proxy.lost) == lost
    assert "A value was made and lost; rotating again." in ended.stderr
    assert pipeline.accepts(pipeline.stored())
    # The first of them held a value; asked again under its Idempotency-Key, the others said that it was made.
    assert pipeline.versions() == ["current", *old_ones(pipeline, 2)]
    assert pipeline.accepts(pipeline.value) == (pipeline.platform != "kubernetes")
    assert "kt_" not in ended.stderr


@EACH
def test_started_again_it_rotates_once_more_and_breaks_nothing(pipeline: Pipeline) -> None:
    values = [pipeline.value]
    for _ in range(3):
        ended = pipeline.run()
        assert ended.returncode == 0, ended.stderr
        values.append(pipeline.stored())
    assert len(set(values)) == 4
    assert [pipeline.accepts(value) for value in values] == [pipeline.platform != "kubernetes"] * 3 + [True]


@EACH
def test_refused_it_fails_says_why_and_stores_nothing(pipeline: Pipeline) -> None:
    pipeline.served.api("POST", f"/gateway-keys/{pipeline.key_id}/revoke/", {})
    ended = pipeline.run()
    assert ended.returncode != 0
    assert "Refused with 409" in ended.stderr
    assert "key_revoked" in ended.stderr
    assert not pipeline.stored_at.exists()


@EACH
def test_without_an_answer_it_gives_up_and_stores_nothing(pipeline: Pipeline) -> None:
    pipeline.proxy.to_lose = 1_000
    ended = pipeline.run()
    assert ended.returncode != 0
    assert "No answer; run this again." in ended.stderr
    assert not pipeline.stored_at.exists()
    assert pipeline.accepts(pipeline.value)
    pipeline.proxy.to_lose = 0
    assert pipeline.run().returncode == 0
    assert pipeline.accepts(pipeline.stored())


@pytest.mark.parametrize("platform", ["github"])
def test_the_grace_of_a_lost_value_can_be_ended(pipeline: Pipeline) -> None:
    pipeline.proxy.to_lose = 1
    assert pipeline.run().returncode == 0
    (lost,) = re.findall(r'"value":"(kt_gk_\w+)"', pipeline.proxy.lost[0])
    assert pipeline.accepts(lost)
    pipeline.proxy.to_lose = 1
    for _ in range(2):
        ended = pipeline.execute(["sh"], BLOCKS["end-grace"])
        assert ended.returncode == 0, ended.stderr
    assert [pipeline.accepts(value) for value in (pipeline.stored(), lost, pipeline.value)] == [True, False, False]


def test_every_file_rotates_by_the_same_function() -> None:
    bodies = [read()[1] for read in PLATFORMS.values()]
    functions = {re.findall(r"^rotate\(\) \{$.*?^\}$", body, re.DOTALL | re.MULTILINE)[0] for body in bodies}
    assert len(functions) == 1


@EACH
def test_the_access_key_is_no_argument_of_any_program(platform: str) -> None:
    _, body = PLATFORMS[platform]()
    lines = [
        line for line in body.splitlines() if "KEEPTRUSTS_ACCESS_KEY" in line and not line.lstrip().startswith("#")
    ]
    assert lines
    assert all("printf 'header" in line for line in lines)


def test_yaml_of_the_document_is_whole() -> None:
    """A workflow that GitHub would not take, or an object that Kubernetes would not, is no example."""
    workflow: dict[Any, Any] = yaml.safe_load(BLOCKS["github"])
    # YAML 1.1 reads `on` as true.
    assert workflow[True]["schedule"]
    kinds = [document["kind"] for document in yaml.safe_load_all(BLOCKS["kubernetes"])]
    assert kinds == ["ServiceAccount", "Role", "RoleBinding", "ConfigMap", "CronJob"]

"""docs/operations.md, "Backup and restore", as it is written there: taken under load, restored elsewhere, verified."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from audit.sealing import seal
from audit.witnesses import copy_checkpoints
from keys import lifecycle
from tests.factories import TESTS, make_gateway, make_key
from tests.faults.plant import Caller, Plant, Web
from tests.processes import manage
from tests.programs import postgresql_folder
from tests.served import own_database

SUMS_AGREE = """
from django.db.models import Sum
from usage.models import KeyMetrics, UsageBucket
counted = KeyMetrics.objects.aggregate(n=Sum("total_requests"))["n"] or 0
added = UsageBucket.objects.aggregate(n=Sum("requests"))["n"] or 0
print("sums", counted, added)
"""


def take(folder: Path, plant: Plant) -> None:
    """The copies of checkpoints first, then the database: no copy may be newer than what is restored."""
    shutil.copy(settings.KEEPTRUSTS_CHECKPOINT_FILE, folder / "audit-checkpoints.ndjson")
    if url := plant.environment.get("DATABASE_URL"):
        dump = [str(_binary("pg_dump")), "--format=custom", f"--file={folder / 'keeptrusts.dump'}", url]
        subprocess.run(dump, check=True, capture_output=True)
    else:
        manage(plant.environment, "backup", str(folder / "keeptrusts.sqlite3"))


def restored_into(backup: Path, folder: Path, url: str, plant: Plant) -> dict[str, str]:
    """Return the environment of the installation that now has what was backed up."""
    folder.mkdir(mode=0o700)
    shutil.copy(backup / "audit-checkpoints.ndjson", folder)
    environment = {**plant.environment, "KEEPTRUSTS_DATA_DIR": str(folder)}
    if url:
        restore = [str(_binary("pg_restore")), "--no-owner", "--exit-on-error", f"--dbname={url}"]
        subprocess.run([*restore, str(backup / "keeptrusts.dump")], check=True, capture_output=True)
        return environment | {"DATABASE_URL": url}
    shutil.copy(backup / "keeptrusts.sqlite3", folder)
    return environment


def test_what_is_backed_up_under_load_is_restored_whole(transactional_db: None, tmp_path: Path) -> None:
    token, issued, revoked = make_gateway().value, make_key(), make_key()
    lifecycle.revoke(actor=TESTS, key_id=revoked.key.pk)
    seal()
    copy_checkpoints()
    for folder in ("running", "backup"):
        (tmp_path / folder).mkdir()
    with Plant(tmp_path / "running") as plant, httpx.Client(timeout=60) as client, own_database("restored") as url:
        web = plant.web().start_and_wait()

        def ask(server: Web, value: str) -> int:
            sent = {"X-Keeptrusts-Gateway-Token": token, "Authorization": f"Bearer {value}"}
            return client.get(server.base + "/gateway/v1/authorize", headers=sent).status_code

        def change() -> None:
            assert ask(web, issued.value) == 200
            made = client.post(
                web.base + "/api/v1/gateway-keys/", json={"name": "a key"}, headers={"Authorization": admin}
            )
            assert made.status_code == 201

        admin = f"Bearer {plant.admin}"
        clients = [Caller(change) for _ in range(2)]
        for caller in clients:
            caller.start()
        take(tmp_path / "backup", plant)
        for caller in clients:
            caller.stop()
        environment = restored_into(tmp_path / "backup", tmp_path / "restored", url, plant)
        assert "The audit log is untouched" in manage(environment, "verify_audit")
        manage(environment, "check_migrations")
        said = manage(environment, "shell", "--verbosity", "0", "-c", SUMS_AGREE).split()
        assert said[0] == "sums"
        assert said[1] == said[2]
        elsewhere = plant.web(prefix=None, workers="1", **environment).start_and_wait()
        assert (ask(elsewhere, issued.value), ask(elsewhere, revoked.value)) == (200, 401)


@pytest.mark.sqlite
def test_a_backup_is_never_written_over_another_file(tmp_path: Path) -> None:
    file = tmp_path / "older"
    file.write_text("older")
    with pytest.raises(CommandError, match="File exists"):
        call_command("backup", str(file))
    assert file.read_text() == "older"


@pytest.mark.postgresql
def test_on_postgresql_the_command_says_what_to_use(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="pg_dump"):
        call_command("backup", str(tmp_path / "new"))


def _binary(name: str) -> Path:
    folder = postgresql_folder()
    assert folder
    return folder / name

"""The settings of the test suite: the real ones, in a folder of their own, without what only costs time.

SQLite by default; with DATABASE_URL (and REDIS_URL), as `script/test` gives them, PostgreSQL and Redis.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def _private_folder() -> Path:
    """Return this process's own folder, below one that the whole run shares and the first process removes."""
    if "KEEPTRUSTS_TEST_FOLDER" not in os.environ:
        shared = tempfile.mkdtemp(prefix="keeptrusts-test-")
        os.environ["KEEPTRUSTS_TEST_FOLDER"] = shared
        atexit.register(shutil.rmtree, shared, ignore_errors=True)
    folder = Path(os.environ["KEEPTRUSTS_TEST_FOLDER"]) / WORKER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _own_redis() -> None:
    """Give each xdist worker a Redis server of its own: numbered databases would still share pub/sub channels."""
    if urls := os.environ.get("KEEPTRUSTS_TEST_REDIS_URLS", "").split():
        number = int(WORKER.removeprefix("gw")) if WORKER.startswith("gw") else 0
        os.environ["REDIS_URL"] = urls[number % len(urls)]


WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
FOLDER = _private_folder()
# What a developer has set for a console of theirs is not for the tests.
for _name in [name for name in os.environ if name.startswith("KEEPTRUSTS_") and "_TEST_" not in name]:
    del os.environ[_name]
for _name in ("HOST", "PORT"):
    os.environ.pop(_name, None)
os.environ["KEEPTRUSTS_DATA_DIR"] = str(FOLDER)
os.environ["KEEPTRUSTS_SECRET_KEY"] = "a-secret-for-tests-" + "0123456789abcdef" * 3
# With DATABASE_URL an Admin needs a second factor; what is about that sets it itself.
os.environ["KEEPTRUSTS_REQUIRE_MFA"] = "none"
_own_redis()

from keeptrusts.settings import *  # noqa: E402, F403
from keeptrusts.settings import DATABASES, EMBEDDED, STORAGES  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Names without a hash, so that no page needs `collectstatic`.
(FOLDER / "static").mkdir(exist_ok=True)
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

if EMBEDDED:
    # A file like the real one (threads, WAL, IMMEDIATE), which need not survive a power cut.
    DATABASES["default"]["TEST"] = {"NAME": str(FOLDER / "test.sqlite3")}
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"
else:
    # A test that fails must not leave a connection in a pool, where it would hold up the end of the suite.
    del DATABASES["default"]["OPTIONS"]["pool"]

# Tasks are sent, to nobody: a test that wants one to run calls it, or starts a worker.
CELERY_BROKER_URL = "memory://"
CELERY_BROKER_TRANSPORT_OPTIONS = {}

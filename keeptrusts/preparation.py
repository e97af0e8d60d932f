"""What a console needs before its first start, and after an update. Whatever is already done costs next to nothing."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from environs import FileAwareEnv

from access.members import create_member
from access.models import Member
from access.rules import Role
from audit.actor import Actor
from keys.models import GatewayKey

type Say = Callable[[str], None]

FIRST_ADMIN = "admin"


def prepare(say: Say, *, demo: bool) -> None:
    """Leave the database migrated, the static files collected, and an Admin who can sign in; with data, if `demo`."""
    migrate(say)
    collect_static(say)
    create_first_admin(say)
    if demo and GatewayKey.objects.exists():
        say("There are gateway keys already: no demonstration data is added.")
    elif demo:
        say("Adding demonstration data…")
        call_command("seed_demo")


def what_is_missing() -> str:
    """Return, in a sentence, what a console needs before it can start; "" where nothing is missing."""
    if _migrations_are_due():
        return "The database lacks migrations: run `manage.py migrate`, or start with --prepare."
    if not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        return "The static files are not collected: run `manage.py collectstatic`, or start with --prepare."
    return ""


def migrate(say: Say) -> None:
    """Apply the migrations that the database does not have yet."""
    if _migrations_are_due():
        say("Preparing the database…")
        call_command("migrate", interactive=False)


def collect_static(say: Say) -> None:
    """Collect and compress the static files, unless that was already done for exactly these."""
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    sources = _static_sources()
    if stamp.exists() and stamp.read_text() == sources:
        return
    say("Collecting static files…")
    # Cleared, because collectstatic itself goes by whole seconds and takes an older file for the same one.
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(sources)


def create_first_admin(say: Say) -> None:
    """Create an Admin if nobody is one, with KEEPTRUSTS_ADMIN_PASSWORD or a password that is shown this once."""
    if Member.objects.filter(role=Role.ADMIN).exists():
        return
    given = FileAwareEnv().str("KEEPTRUSTS_ADMIN_PASSWORD", "")
    password = given or secrets.token_urlsafe(15)
    try:
        create_member(actor=Actor.system("first start"), username=FIRST_ADMIN, password=password, role=Role.ADMIN.value)
    except ValidationError as error:
        raise CommandError(f"The first Admin cannot be created: {' '.join(error.messages)}") from error
    if given:
        say(f"The first Admin is {FIRST_ADMIN!r}, with the password from KEEPTRUSTS_ADMIN_PASSWORD.")
    else:
        say(f"\n    Sign in as {FIRST_ADMIN}\n    Password   {password}\n    It is shown this once.\n")


def _migrations_are_due() -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _static_sources() -> str:
    """Return a digest of every static file's place, size and time, and of how they are stored."""
    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            found = os.stat(storage.path(path))
            digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()

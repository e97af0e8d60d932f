from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.access_keys import create_access_key
from access.models import Member
from audit import clock
from audit.actor import Actor


class Command(BaseCommand):
    help = "Make an access key for a member and print its value, alone, on standard output. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", required=True, help="what will use it")
        parser.add_argument("--days", type=int, help="until it expires; without it, until it is revoked")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = Member.objects.active().filter(username=options["username"]).first()
        if owner is None:
            raise CommandError(f"There is no active member {options['username']!r}.")
        try:
            issued = create_access_key(
                actor=Actor.system("create_access_key command"),
                owner=owner,
                name=options["name"],
                expires_at=_expiry(options["days"]),
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(issued.value)


def _expiry(days: int | None) -> datetime | None:
    if days is None:
        return None
    if not 0 < days <= 36_500:
        raise CommandError("--days must be between 1 and 36500.")
    return clock.now() + timedelta(days=days)

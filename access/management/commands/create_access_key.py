from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.access_keys import create_access_key
from access.models import Member
from access.unset import UNSET, Unset
from audit import clock
from audit.actor import Actor


class Command(BaseCommand):
    help = "Make an access key for a member and print its value, alone, on standard output. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", required=True, help="what will use it")
        parser.add_argument("--days", type=int, help="until it expires; the default and the ceiling are settings")
        parser.add_argument("--read-only", action="store_true", help="it changes nothing, whatever its owner may")
        parser.add_argument(
            "--group",
            action="append",
            metavar="SLUG",
            help="only keys of this consumer group; may be said several times",
        )

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
                read_only=options["read_only"],
                consumer_groups=options["group"],
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(issued.value)


def _expiry(days: int | None) -> datetime | Unset:
    if days is None:
        return UNSET
    if not 0 < days <= 36_500:
        raise CommandError("--days must be between 1 and 36500.")
    return clock.now() + timedelta(days=days)

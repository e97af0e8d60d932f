from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.models import Member
from access.second_factors import reset_second_factors
from audit.actor import Actor


class Command(BaseCommand):
    help = "Take every second factor and recovery code from a member who has lost them, and end their sessions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        member = Member.objects.filter(username=options["username"]).first()
        if member is None:
            raise CommandError(f"No member is called {options['username']!r}.")
        count = reset_second_factors(actor=Actor.system("reset_mfa command"), member_id=member.pk)
        if not count:
            raise CommandError(f"{member} has no second factor.")
        self.stderr.write(f"{member} has no second factor any more ({count} removed); their sessions have ended.")

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from keeptrusts.demo import seed


class Command(BaseCommand):
    help = "Fill an empty installation with believable data: groups, gateways, keys in every status, a month of usage."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            passwords = seed(self.stdout.write)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("Members to look around as (shown this once):")
        for username, password in passwords.items():
            self.stdout.write(f"    {username:<14} {password}")

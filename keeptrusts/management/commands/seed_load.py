from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keeptrusts.load_data import Size, load


class Command(BaseCommand):
    help = "Fill an installation with so much that it shows how the console bears it: keys, events, and their sums."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keys", type=int, default=200_000, help="gateway keys (200000)")
        parser.add_argument("--events", type=int, default=5_000_000, help="usage events of the last 30 days (5000000)")
        parser.add_argument("--groups", type=int, default=200, help="consumer groups (200)")
        parser.add_argument("--add", action="store_true", help="although there are gateway keys already")

    def handle(self, *args: Any, **options: Any) -> None:
        size = Size(keys=options["keys"], events=options["events"], groups=options["groups"])
        try:
            load(self.stdout.write, size, add_to=options["add"])
        except ValueError as error:
            raise CommandError(str(error)) from error

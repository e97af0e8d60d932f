from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.actor import Actor
from gateways.models import UsageSource
from gateways.registry import create_gateway


class Command(BaseCommand):
    help = "Register a gateway and print its token, alone, on standard output. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--usage-source", choices=UsageSource.values, default=UsageSource.AUTHORIZE.value)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            issued = create_gateway(
                actor=Actor.system("create_gateway command"),
                name=options["name"],
                usage_source=options["usage_source"],
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(issued.value)

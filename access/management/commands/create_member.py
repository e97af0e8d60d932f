from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.members import create_member
from access.rules import Role
from audit.actor import Actor


class Command(BaseCommand):
    help = "Add a member. The password is asked for, or read as one line from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", required=True, choices=Role.values)
        parser.add_argument("--name", default="")
        parser.add_argument("--email", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            member = create_member(
                actor=Actor.system("create_member command"),
                username=options["username"],
                password=_read_password(),
                role=options["role"],
                name=options["name"],
                email=options["email"],
            )
        except ValidationError as error:
            raise CommandError(_in_words(error)) from error
        self.stderr.write(f"{member.get_role_display()} {member.username} can sign in now.")


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Password (again): ") != password:
        raise CommandError("The passwords differ.")
    return password


def _in_words(error: ValidationError) -> str:
    return "; ".join(f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items())
